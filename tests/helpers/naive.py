"""EfficientNet-Lite as plain loops, written from the paper and TensorFlow's documentation: the oracle of the tests.

It imports nothing of the package and shares no vocabulary with it. One picture at a time, (rows, cols, channels), all
arithmetic in float64; loops over pixels and taps are written out, and only channels go through NumPy.
"""
import math

import numpy as np

# As in the paper: kind, repeats, filter side, step, widening, channels.
TABLE = "ds_r1_k3_s1_e1_c16 ir_r2_k3_s2_e6_c24 ir_r2_k5_s2_e6_c40 ir_r3_k3_s2_e6_c80 ir_r3_k5_s1_e6_c112 " \
        "ir_r4_k5_s2_e6_c192 ir_r1_k3_s1_e6_c320"
SCALING = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
EPSILON = 0.001

# --- layers ----------------------------------------------------------------------------------------------------------


def border(length, side, step):
    """Zeros before and after `length` values, as TensorFlow's documentation of "SAME" puts it."""
    rest = length % step
    zeros = max(side - step, 0) if rest == 0 else max(side - rest, 0)
    return zeros // 2, zeros - zeros // 2


def positions(length, side, step):
    """For every output position along one axis: the (tap, source) pairs that fall inside the picture."""
    before, after = border(length, side, step)
    starts = range(-before, length + after - side + 1, step)
    return [[(tap, start + tap) for tap in range(side) if 0 <= start + tap < length] for start in starts]


def slide(picture, side, step, outs, contribution):
    """Sum contribution(dy, dx, pixel) over the taps of every output pixel: (rows, cols, ins) -> (.., .., outs)."""
    ys, xs = (positions(length, side, step) for length in picture.shape[:2])
    result = np.zeros((len(ys), len(xs), outs))
    for y, down in enumerate(ys):
        for x, across in enumerate(xs):
            for dy, source_y in down:
                for dx, source_x in across:
                    result[y, x] += contribution(dy, dx, picture[source_y, source_x])
    return result


def dense(picture, filters, step):
    """(rows, cols, ins), (outs, ins, side, side) -> (.., .., outs)."""
    picture, filters = np.asarray(picture, np.float64), np.asarray(filters, np.float64)
    outs, _, side, _ = filters.shape
    return slide(picture, side, step, outs, lambda dy, dx, pixel: filters[:, :, dy, dx] @ pixel)


def depthwise(picture, filters, step):
    """(rows, cols, channels), (channels, 1, side, side) -> (.., .., channels)."""
    picture, filters = np.asarray(picture, np.float64), np.asarray(filters, np.float64)
    channels, _, side, _ = filters.shape
    return slide(picture, side, step, channels, lambda dy, dx, pixel: filters[:, 0, dy, dx] * pixel)


def pointwise(picture, filters):
    """(rows, cols, ins), (outs, ins, 1, 1) -> (rows, cols, outs)."""
    return dense(picture, filters, 1)


def normalise(picture, gain, shift, mean, variance):
    """(rows, cols, channels) and four vectors -> (rows, cols, channels)."""
    result = np.zeros(picture.shape)
    for c in range(picture.shape[2]):
        deviation = math.sqrt(float(variance[c]) + EPSILON)
        result[:, :, c] = (np.float64(picture[:, :, c]) - float(mean[c])) / deviation * float(gain[c]) + float(shift[c])
    return result


def clip6(values):
    """Values clipped to 0..6."""
    return np.minimum(np.maximum(values, 0.0), 6.0)


def mean_pixel(picture):
    """(rows, cols, channels) -> (channels,)."""
    total = np.zeros(picture.shape[2])
    for row in picture:
        for pixel in row:
            total += pixel
    return total / (picture.shape[0] * picture.shape[1])


def matrix(vector, table, shift):
    """(ins,), (outs, ins), (outs,) -> (outs,)."""
    return np.array([math.fsum(np.float64(row) * vector) + float(s) for row, s in zip(table, shift)])


# --- exact bits ------------------------------------------------------------------------------------------------------


def fused(a, b, c):
    """a * b + c in float32 with one rounding, for arrays that broadcast.

    A float64 holds the product of two float32 exactly; the sum is then rounded to odd, after which the second rounding,
    to float32, can do no harm (Boldo & Melquiond 2008, doi 10.1109/TC.2007.70819).
    """
    product, c = np.float64(np.float32(a)) * np.float64(np.float32(b)), np.float64(np.float32(c))
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)
    even = total.view(np.int64) & 1 == 0
    odd = np.nextafter(total, np.copysign(np.inf, lost))
    return np.where((lost != 0) & even, odd, total).astype(np.float32)


def chain(start, pairs):
    """The float32 that fused multiply-adds give, one after another: ((start + a0 b0) + a1 b1) + .."""
    for a, b in pairs:
        start = fused(a, b, start)
    return start


def slide_chain(picture, side, step, start, factors):
    """As `slide`, but each output pixel is the chain from `start` over factors(dy, dx, pixel), taps in order."""
    ys, xs = (positions(length, side, step) for length in picture.shape[:2])
    return np.array([[chain(start, (pair for dy, sy in down for dx, sx in across
                                    for pair in factors(dy, dx, picture[sy, sx])))
                      for across in xs] for down in ys])


def dense_chain(picture, filters, shift, step):
    """(rows, cols, ins), (outs, ins, side, side), (outs,) -> (.., .., outs): taps in order, channels within a tap."""
    ins = range(filters.shape[1])
    return slide_chain(picture, filters.shape[2], step, shift,
                       lambda dy, dx, pixel: [(pixel[c], filters[:, c, dy, dx]) for c in ins])


def depthwise_chain(picture, filters, shift, step):
    """(rows, cols, channels), (channels, 1, side, side), (channels,) -> (.., .., channels)."""
    return slide_chain(picture, filters.shape[2], step, shift, lambda dy, dx, pixel: [(pixel, filters[:, 0, dy, dx])])


# --- the network -----------------------------------------------------------------------------------------------------


def eighths(channels):
    """The multiple of 8 nearest to `channels`, halves upwards, at least 8, and not below nine tenths of it."""
    nearest = max(8, 8 * math.floor(channels / 8 + 0.5))
    return nearest if nearest >= 0.9 * channels else nearest + 8


def layers(size, classes=1000, colours=3):
    """Yield (block or "", kind, name, norm's name, side, step, ins, outs, clipped) in the order of execution."""
    wider, deeper = SCALING[size]
    entries = [{part[0]: part[1:] for part in entry.split("_")} for entry in TABLE.split()]
    yield "", "dense", "conv_stem", "bn1", 3, 2, colours, 32, True
    ins = 32
    for number, entry in enumerate(entries):
        at_the_ends = number in (0, len(entries) - 1)
        repeats = int(entry["r"]) if at_the_ends else math.ceil(int(entry["r"]) * deeper)
        outs, side = eighths(int(entry["c"]) * wider), int(entry["k"])
        for repeat in range(repeats):
            step, block = int(entry["s"]) if repeat == 0 else 1, f"blocks.{number}.{repeat}"
            inner = ins * int(entry["e"])
            shape = (side, step, inner, inner, True)
            if "d" in entry:  # "ds": nothing is widened
                yield block, "each", f"{block}.conv_dw", f"{block}.bn1", *shape
                yield block, "dense", f"{block}.conv_pw", f"{block}.bn2", 1, 1, inner, outs, False
            else:
                yield block, "dense", f"{block}.conv_pw", f"{block}.bn1", 1, 1, ins, inner, True
                yield block, "each", f"{block}.conv_dw", f"{block}.bn2", *shape
                yield block, "dense", f"{block}.conv_pwl", f"{block}.bn3", 1, 1, inner, outs, False
            ins = outs
    yield "", "dense", "conv_head", "bn2", 1, 1, ins, 1280, True


def shapes(size, classes=1000, colours=3):
    """Name -> shape of every entry of the checkpoint, in its order."""
    found = {}
    for _, kind, name, norm, side, _, ins, outs, _ in layers(size, classes, colours):
        found[f"{name}.weight"] = (outs, 1 if kind == "each" else ins, side, side)
        found |= {f"{norm}.{leaf}": (outs,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        found[f"{norm}.num_batches_tracked"] = ()
    return found | {"classifier.weight": (classes, 1280), "classifier.bias": (classes,)}


def network(size, values, picture):
    """A checkpoint's arrays by name and one picture (rows, cols, colours) -> (classes,)."""
    classes, colours = len(values["classifier.bias"]), picture.shape[2]
    previous, entrance = "", None
    for block, kind, name, norm, _, step, _, outs, clipped in layers(size, classes, colours):
        if block != previous:
            previous, entrance, strides = block, picture, 1
        strides = strides * step if block else 0
        filters = values[f"{name}.weight"]
        picture = depthwise(picture, filters, step) if kind == "each" else dense(picture, filters, step)
        picture = normalise(picture, *(values[f"{norm}.{leaf}"]
                                       for leaf in ("weight", "bias", "running_mean", "running_var")))
        if clipped:
            picture = clip6(picture)
        elif strides == 1 and entrance.shape[2] == outs:
            picture = picture + entrance
    return matrix(mean_pixel(picture), values["classifier.weight"], values["classifier.bias"])
