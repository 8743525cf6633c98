"""Which networks compiled kernels can compute: those that are built as lite0 to lite4 are, of any width and depth.

A kernel checks nothing. With a kernel size, a stride or a number of channels that it was not made for, it would give
wrong numbers or end the process. This needs no Numba.
"""
from ..errors import ArgumentError
from ..network.architecture import STEM_CHANNELS, Architecture, Conv

MADE_FOR = {"stem": ((3,), (2,)), "depthwise": ((3, 5), (1, 2)), "pointwise": ((1,), (1,))}  # kernel sizes, strides
MULTIPLE = 8  # of channels: a pointwise kernel for integers takes so many at a time
REMEDY = 'the plain network, backend="reference", has no such limit'


def check_network(network: Architecture) -> None:
    """Raise ArgumentError for a network that compiled kernels can't compute."""
    kinds = [block.kind for block in network.blocks]
    if kinds[:1] != ["ds"] or "ds" in kinds[1:] or network.blocks[0].skip:
        raise ArgumentError(f"blocks of the kinds {kinds}: compiled kernels need a first one of the kind 'ds', without "
                            f"a shortcut, and after it only 'ir'; {REMEDY}")
    if network.stem.out_channels != STEM_CHANNELS:
        raise ArgumentError(f"{network.stem.name} has {network.stem.out_channels} output channels: compiled kernels "
                            f"need {STEM_CHANNELS}; {REMEDY}")
    channels = network.in_chans
    for conv in network.convs:
        if conv.in_channels != channels:
            raise ArgumentError(f"{conv.name} has {conv.in_channels} input channels: it must have {channels}, as many "
                                "as the layer before it puts out")
        _check_conv(conv)
        channels = conv.out_channels


def _check_conv(conv: Conv) -> None:
    sizes, strides = MADE_FOR[conv.op]
    if conv.kernel not in sizes or conv.stride not in strides:
        raise ArgumentError(f"{conv.name} is {conv.kernel}x{conv.kernel} with stride {conv.stride}: for a {conv.op} "
                            f"convolution, compiled kernels need a size in {sizes} and a stride in {strides}; {REMEDY}")
    if conv.out_channels % MULTIPLE:
        raise ArgumentError(f"{conv.name} has {conv.out_channels} output channels: compiled kernels need a multiple of "
                            f"{MULTIPLE}; {REMEDY}")
