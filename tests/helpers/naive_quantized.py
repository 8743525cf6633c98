"""The network in 8 bits as plain loops, written from its formulas: the oracle of the tests.

It imports nothing of the package. One picture at a time, (rows, cols, channels); loops over pixels and taps stand in
the open, only channels go through NumPy: sums in int64, everything else in float32, one operation after another.
`values` has (filters, scale, shift) for each layer by name, with None for the scale of the two that stay floats.
"""
import naive
import numpy as np

SIX = 6.0 / 255.0  # of one level


def level(values):
    """The nearest of 0..255, halves to even: rounded by Python, then bounded."""
    return np.array([min(max(round(float(value)), 0), 255) for value in values], np.int64)


def each_pixel(picture, function):
    """(rows, cols, ins) -> (rows, cols, outs)."""
    return np.array([[function(pixel) for pixel in row] for row in picture])


def after_levels(picture, filters, scale, shift):
    """1x1 on whole numbers."""
    table = filters[:, :, 0, 0].astype(np.int64)
    return each_pixel(picture, lambda pixel: naive.fused(np.float32(table @ pixel), scale, shift))


def after_floats(picture, filters, scale, shift):
    """1x1 on floats: each row is counted in 127ths of its largest magnitude."""
    table, limit, rows = filters[:, :, 0, 0].astype(np.int64), np.float32(127), []
    for row in picture:
        largest = max(np.float32(2.0**-100), *(abs(value) for pixel in row for value in pixel))
        finer, coarser = limit / largest, largest * np.float32(1 / 127)
        parts = np.array([[round(float(value * finer)) for value in pixel] for pixel in row])
        assert np.abs(parts).max() <= 127
        rows.append([naive.fused(np.float32(table @ part), coarser * scale, shift) for part in parts])
    return np.array(rows)


def each_channel(picture, filters, scale, shift, step):
    """Depthwise on whole numbers."""
    table = filters.astype(np.int64)
    sums = naive.slide(picture, table.shape[2], step, len(table), lambda dy, dx, pixel: table[:, 0, dy, dx] * pixel)
    return each_pixel(sums, lambda pixel: naive.fused(np.float32(pixel), scale, shift))


def pooled(picture, how):
    """(rows, cols, channels) whole numbers -> (channels,) or, for "catavgmax", (2 channels,)."""
    pixels = [pixel for row in picture for pixel in row]
    average = np.float32(sum(pixels)) * (np.float32(SIX) / np.float32(len(pixels)))
    largest = np.float32(np.max(pixels, axis=0)) * np.float32(SIX)
    half = np.float32(0.5)
    return {"avg": average, "max": largest, "avgmax": average * half + largest * half,
            "catavgmax": np.concatenate([average, largest])}[how]


def network(size, values, picture, how="avg", classes=1000):
    """Yield the name and the output of every layer, whole numbers as int64."""
    previous, entrance = "", None
    for block, kind, name, _, _, step, _, outs, clipped in naive.layers(size, classes, picture.shape[2]):
        if block != previous:
            previous, entrance, strides = block, picture, 1
        strides = strides * step if block else 0
        filters, scale, shift = values[name]
        if name == "conv_stem":
            picture = naive.clip6(naive.dense_chain(picture, filters, shift, step)).astype(np.float32)
            yield name, picture
            continue
        if scale is None:
            picture = naive.depthwise_chain(picture, filters, shift, step)
        elif kind == "each":
            picture = each_channel(picture, filters, scale, shift, step)
        else:
            picture = (after_floats if clipped else after_levels)(picture, filters, scale, shift)
        if clipped:
            picture = each_pixel(picture, level)
        elif strides == 1 and entrance.shape[2] == outs:
            picture = picture + entrance
        yield name, picture
    if how:
        vector = pooled(picture, how)
        yield "global_pool", vector
        if classes:
            yield "classifier", after_floats(vector[None, None], *values["classifier"])[0, 0]
