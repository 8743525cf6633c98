"""One channel of a convolution for the page: its pictures, and its numbers for the script that multiplies them."""
import base64
import json

import numpy as np

from ..display import pictures
from ..images.image import per_channel
from .sums import ChannelSums

MOST = 112  # rows and columns of the pictures
LARGEST = 1 << 20  # bytes of an input to embed: more than those of Lite4 at its own size
COLOURS = {1: ("",), 3: ("red", "green", "blue")}  # of the input's channels; a depthwise convolution reads one


def probe(e, one: ChannelSums) -> dict | None:
    """For the template; "data" are the attributes that page.js reads. None if the input is too large to be embedded.

    The input is embedded as it is: bytes, or float32 in little-endian order. The network's own input is embedded as the
    pixels that it is made of: value = pixel * factor + offset, channel by channel.
    """
    x, factor, offset = one.x, [1.0], [0.0]
    first = one.layer == e.network.stem.name
    if first:
        count = x.shape[2]
        mean, std = (np.array(per_channel(values, count)) for values in (e.preprocessing.mean, e.preprocessing.std))
        x, factor, offset = e.cropped[..., :count], (1 / (255 * std)).tolist(), (-mean / std).tolist()
    if x.nbytes > LARGEST:
        return None
    row, column = _start(one.out)
    data = {"x": base64.b64encode(np.ascontiguousarray(x.astype(x.dtype.newbyteorder("<"))).tobytes()).decode(),
            "type": str(x.dtype), "shape": x.shape, "factor": factor, "offset": offset, "padding": one.padding,
            "kernel": one.kernel, "stride": one.stride, "weight": [float(str(value)) for value in one.weight.ravel()],
            "scale": one.scale, "bias": one.bias, "step": one.step, "size": one.out.shape, "at": (row, column),
            "colours": COLOURS[x.shape[2]]}
    low, high = float(one.x.min()), float(one.x.max())
    shown = e.cropped if first else pictures.grey(one.x[..., 0].astype(np.float32), low, high)
    return {"one": one, "data": {f"data-{name}": value if isinstance(value, str) else json.dumps(value)
                                 for name, value in data.items()},
            "input": _picture(shown), "output": _picture(pictures.grey(one.out, 0.0, 6.0)), "first": first,
            "name": one.layer.rpartition(".")[2]}


def _start(out: np.ndarray) -> tuple[int, int]:
    """The pixel to begin with: the largest of the middle, where no padding is likely to take part."""
    corner = [length // 4 for length in out.shape]
    middle = out[corner[0] : out.shape[0] - corner[0], corner[1] : out.shape[1] - corner[1]]
    row, column = np.unravel_index(middle.argmax(), middle.shape)
    return int(row) + corner[0], int(column) + corner[1]


def _picture(pixels: np.ndarray) -> dict:
    return {"uri": pictures.data_uri(pictures.shrink(pixels, MOST)), "sharp": True}
