"""The network as data and as plain NumPy: variants, layers, parameters, and what they compute."""
