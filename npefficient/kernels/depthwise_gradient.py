"""The gradient of a depthwise convolution's weights, each channel separately.

    out[i, j, c] += sum over q, r of x[q S + i, r S + j, c] * dy[q, r, c]

    x (H, W, C), the convolution's input with its padding, dy (Q, R, C), the gradient of its output, out (K, K, C), all
    float32, one block of channels at a time; K is 3 or 5, S is 1 or 2
    FLOPs 2 Q R C K K; bytes at least 4 (H W C + Q R C)
    registers: an accumulator for each tap of some kernel rows + 1 for dy; 25 + 1 for all of a 5x5 kernel
    loads per FMA: 1 for x, and 1 / taps for dy

Each sum is one chain of FMAs over the pixels in order, which starts at what `out` holds.

The gradient of the input is a depthwise convolution of dy at stride 1, with the kernel turned by 180 degrees. For that,
the pixels of dy are STRIDE apart, with zeros between them: this kernel reads them as they lie then.
"""
from .lanes import family


def depthwise_gradient(t, x, x_row, dy, dy_row, out, rows, columns, *, KERNEL, STRIDE):
    """`rows` rows of `columns` pixels of dy, which are STRIDE vectors apart; addresses and rows in bytes."""
    vector = t.layout.vector

    def add_up(taps):
        def row(q, x, dy, *acc):
            def pixel(r, x, dy, *acc):
                gradient = t.load(dy)
                acc = [t.fma(t.load(x + x_row * i + j * vector), gradient, a) for a, (i, j) in zip(acc, taps)]
                return [x + STRIDE * vector, dy + STRIDE * vector, *acc]

            _, _, *acc = t.loop(columns, pixel, x, dy, *acc)
            return [x + x_row * STRIDE, dy + dy_row, *acc]

        acc = [t.load(out + (i * KERNEL + j) * vector) for i, j in taps]
        _, _, *acc = t.loop(rows, row, x, dy, *acc)
        for a, (i, j) in zip(acc, taps):
            t.store(a, out + (i * KERNEL + j) * vector)

    together = min(KERNEL, (t.layout.registers - 2) // KERNEL)  # kernel rows whose accumulators fit the registers
    for first in range(0, KERNEL, together):
        add_up([(i, j) for i in range(first, min(first + together, KERNEL)) for j in range(KERNEL)])


def depthwise_gradient_kernel(layout):
    """DEPTHWISE_GRADIENT(KERNEL, STRIDE, x, x_row, ..), for compiled code."""
    return family(depthwise_gradient, layout, KERNEL=(3, 5), STRIDE=(1, 2))
