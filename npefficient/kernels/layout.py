"""How floats lie in memory: what the kernels share with the code that packs and plans, which needs no compiler."""
LANES = 8  # floats in a vector: every channel count of the network is a multiple of 8
FLOAT = 4  # bytes
VECTOR = LANES * FLOAT  # bytes
PANEL = 2  # vectors of output channels side by side in the packed weights of a 1x1 convolution
