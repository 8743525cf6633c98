"""Batch norm in training, forward and backward, one block of channels at a time, over some pixels of one picture.

With the batch's mean and deviation, gamma and beta, and N values in the batch, for each channel:

    scale = gamma / deviation, shift = beta - mean scale
    u = scale x + shift
    y = relu6(u), or factor u + residual

and backward, where dv is the gradient of the loss with respect to v:

    du = dy where 0 < u < 6, else 0; or factor dy
    dbeta = sum of du                           over the batch
    dgamma = sum of du (x - mean) / deviation
    dx = scale du + slope (x - mean) + constant
    slope = -scale dgamma / (deviation N), constant = -scale dbeta / N

    x, u, y, residual and their gradients (P, lanes), the others (lanes,), all float32; factor is one number for each
    picture, which stochastic depth makes 0 or more than 1

Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3. The gradient of ReLU6 at 0 and at 6 is 0, as in torch.
"""
from .lanes import family, kernel

SIDE_BY_SIDE = 4  # sums at a time, which hides the time that an addition takes


def activate(t, x, scale, shift, factor, has_residual, residual, y, pixels, *, RELU6):
    """y for `pixels` pixels; the others are addresses."""
    vector, scales, shifts = t.layout.vector, t.load(scale), t.load(shift)
    factors = None if RELU6 else t.splat(factor)

    def pixel(p, x, residual, y):
        u = t.fma(t.load(x), scales, shifts)
        [u] = [u.relu6()] if RELU6 else t.when(has_residual, lambda u: [t.fma(u, factors, t.load(residual))], u)
        t.store(u, y)
        return x + vector, residual + vector, y + vector

    t.loop(pixels, pixel, x, residual, y)


def moments(t, x, share, mean, squares, times, rest):
    """The mean of some pixels, and the sum of the squares of their distances from it.

    share: address of 1 / the number of pixels, which is SIDE_BY_SIDE * times + rest
    """
    [total] = sums(t, times, rest, lambda x: [t.load(x)], 1, x)
    middle = total * t.splat(share)

    def square(x):
        apart = t.load(x) - middle
        return [apart * apart]

    [total] = sums(t, times, rest, square, 1, x)
    t.store(middle, mean)
    t.store(total, squares)


def activate_gradient(t, x, scale, shift, mean, factor, dy, has_skip, skip, out, dbeta, dcentred, times, rest, *,
                      RELU6):
    """The sums over some pixels of du and of du (x - mean). What is stored at `out` is du with ReLU6, else dy.

    skip: address of a gradient that is added to dy, through a shortcut from here; without ReLU6 only

    `out` is streamed: it is read again after all pictures, when it has long left the caches, and a store through them
    would first load what it replaces.
    """
    scales, shifts, middle = t.load(scale), t.load(shift), t.load(mean)

    def pixel(x, dy, skip, out):
        value, gradient = t.load(x), t.load(dy)
        if RELU6:
            gradient = gradient.where_inside(t.fma(value, scales, shifts), 6.0)
        else:
            [gradient] = t.when(has_skip, lambda gradient: [gradient + t.load(skip)], gradient)
        t.stream(gradient, out)
        return [gradient, gradient * (value - middle)]

    totals = sums(t, times, rest, pixel, 2, x, dy, skip, out)
    for total, place in zip(totals, (dbeta, dcentred)):
        t.store(total if RELU6 else total * t.splat(factor), place)


def normalise_gradient(t, x, mean, scale, slope, constant, factor, dy, dx, dx_pixel, pixels):
    """dx of `pixels` pixels, which are `dx_pixel` bytes apart, from factor dy; factor is 1 after ReLU6."""
    vector, scales = t.layout.vector, t.load(scale) * t.splat(factor)
    slopes, constants, middle = (t.load(address) for address in (slope, constant, mean))

    def pixel(p, x, dy, dx):
        line = t.fma(t.load(x) - middle, slopes, constants)
        t.store(t.fma(t.load(dy), scales, line), dx)
        return x + vector, dy + vector, dx + dx_pixel

    t.loop(pixels, pixel, x, dy, dx)


def sums(t, times, rest, body, count, *addresses):
    """The `count` sums of what `body(*addresses)` returns for each of SIDE_BY_SIDE * times + rest pixels.

    SIDE_BY_SIDE sums of every kind run side by side and are added up in the end, always in the same order.
    """
    vector, kinds = t.layout.vector, range(count)
    places = len(addresses)

    def together(i, *carried):
        at, totals = carried[:places], list(carried[places:])
        for p in range(SIDE_BY_SIDE):
            for kind, term in zip(kinds, body(*(address + p * vector for address in at))):
                totals[p * count + kind] = totals[p * count + kind] + term
        return [*(address + SIDE_BY_SIDE * vector for address in at), *totals]

    def alone(i, *carried):
        at, totals = carried[:places], carried[places:]
        return [*(address + vector for address in at), *(total + term for total, term in zip(totals, body(*at)))]

    carried = t.loop(times, together, *addresses, *[t.number(0.0)] * (SIDE_BY_SIDE * count))
    at, totals = carried[:places], carried[places:]
    one, two, three, four = (totals[p * count : (p + 1) * count] for p in range(SIDE_BY_SIDE))
    totals = [(one[kind] + two[kind]) + (three[kind] + four[kind]) for kind in kinds]
    return t.loop(rest, alone, *at, *totals)[places:]


def activate_kernel(layout):
    """ACTIVATE(RELU6, x, scale, ..), for compiled code."""
    return family(activate, layout, RELU6=(0, 1))


def moments_kernel(layout):
    """MOMENTS(x, share, mean, ..), for compiled code."""
    return kernel(moments, layout)


def activate_gradient_kernel(layout):
    """ACTIVATE_GRADIENT(RELU6, x, scale, ..), for compiled code."""
    return family(activate_gradient, layout, RELU6=(0, 1))


def normalise_gradient_kernel(layout):
    """NORMALISE_GRADIENT(x, mean, scale, ..), for compiled code."""
    return kernel(normalise_gradient, layout)
