"""The operators of the network, each in a file of its own, traced to machine code by `lanes`."""
