"""The operators of the network, one file each, traced to machine code by `lanes`."""
