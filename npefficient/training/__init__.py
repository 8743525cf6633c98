"""Training: what a run needs to change the weights of a network."""
