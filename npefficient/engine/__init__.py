"""The compiled engine: inference by plans over packed weights, and training, both on threads in compiled code."""
