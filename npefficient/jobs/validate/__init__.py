"""How often a model is right on labelled photos."""
