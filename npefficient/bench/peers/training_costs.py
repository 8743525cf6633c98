"""What a training step costs at least: multiply-adds, and bytes between memory and the cache."""
from ...kernels.layout import FLOAT
from ...network.architecture import Architecture

# Reads and writes of each parameter in one step: packing 2 and the convolution 1, both forward and backward; of its
# gradient 1, unpacking it 2; the optimizer 5: the gradient 1, the momentum 2, the parameter 2.
PARAMETER_PASSES = 14


def step_macs(network: Architecture, height: int, width: int) -> int:
    """Multiply-adds for one picture: three times those of the forward pass, less one time the stem's.

    Backward, every convolution and the classifier has as many for the gradient of its weights as forward, and as many
    for that of its input, which nobody needs of the stem. Batch norms, activations and the optimizer are not counted.
    """
    return 3 * network.macs(height, width) - network.stem.macs(height, width)


def bytes_moved(network: Architecture, height: int, width: int, batch: int) -> float:
    """Bytes for one picture that the engine's passes read or write, if all that a chunk of a step uses again is still
    in the cache, and nothing from one step to the next.

    That is, with the passes of `engine/training_steps.py`, x what the layer before stored, z the layer's output:

        forward     x and z; where a block begins, also y (the input that is kept) and its shortcut
        backward    z, dy, x and dx; where a block begins, also y, its shortcut, and the gradient that skips the block
        stem        has no dx
        head        forward z and y, and y by the pool; backward dy by the pool, and z, dy and dy for the sums
        parameters  PARAMETER_PASSES, shared by all pictures of the batch

    Every map has its own channels only: the engine rounds them up to whole vectors.
    """
    convs = {layer.name: layer for layer in network.layers(height, width) if layer.op not in ("pool", "classifier")}
    floats = 0
    for layer in convs.values():
        x, z = layer.height * layer.width * layer.in_channels, layer.activations
        floats += (x + z) + (2 * z + 2 * x)
    stem, head = convs[network.stem.name], convs[network.head.name]
    floats -= stem.height * stem.width * stem.in_channels
    for before, first, block in zip(network.blocks, [block.convs[0] for block in network.blocks[1:]] + [network.head],
                                    (*network.blocks[1:], None)):
        layer = convs[first.name]
        x = layer.height * layer.width * layer.in_channels
        floats += 2 * x + (2 * x if before.skip else 0) + (x if block and block.skip else 0)
    floats += 7 * head.activations
    return FLOAT * (floats + PARAMETER_PASSES * network.param_count() / batch)
