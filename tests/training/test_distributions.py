"""What is drawn has timm's distributions: here timm draws from its own sources of random numbers.

For each number drawn, means of a few thousand draws by both differ by at most LIMIT standard errors; so do the shares
below each quartile of timm's. The seeds are fixed, and so the outcome is, too.
"""
import random
from unittest import mock

import numpy as np
import pytest
from live import needs_timm, torch

from npefficient.training.color_jitter import draw_jitter
from npefficient.training.operations import GEOMETRIC
from npefficient.training.rand_augment import parse_rand_augment
from npefficient.training.random_crop import draw_crop
from npefficient.training.random_erasing import draw_erasures

DRAWS, LIMIT = 3000, 4.0


def agree(ours, timms):
    """Compare two samples (N,) or (N, numbers) column by column."""
    for own, other in zip(np.atleast_2d(np.asarray(ours, float).T), np.atleast_2d(np.asarray(timms, float).T)):
        cuts = np.quantile(other, (0.25, 0.5, 0.75))
        for a, b in [(own, other), *((own <= cut, other <= cut) for cut in cuts)]:
            error = np.sqrt(np.var(a) / len(a) + np.var(b) / len(b))
            assert abs(np.mean(a) - np.mean(b)) <= LIMIT * error + 1e-12
    return True


@pytest.fixture(autouse=True)
def seeded():
    state = random.getstate(), np.random.get_state()
    random.seed(1)
    np.random.seed(2)
    if torch is not None:
        torch.manual_seed(3)
    yield
    random.setstate(state[0])
    np.random.set_state(state[1])


def test_agree_can_fail():
    rng = np.random.default_rng(0)
    assert agree(rng.uniform(0, 1, DRAWS), rng.uniform(0, 1, DRAWS))
    for other in (rng.uniform(0, 1.1, DRAWS), rng.normal(0.5, 12**-0.5, DRAWS), rng.uniform(-0.1, 1, DRAWS)):
        with pytest.raises(AssertionError):
            agree(rng.uniform(0, 1, DRAWS), other)


@needs_timm
@pytest.mark.parametrize("size", [(300, 400), (90, 500)], ids=str)
def test_crops(size):
    from timm.data.transforms import RandomResizedCropAndInterpolation
    from torchvision.transforms import functional

    scale, ratio, rng = (0.08, 1.0), (3 / 4, 4 / 3), np.random.default_rng(4)
    crops = [draw_crop(rng, size, scale, ratio, ("bilinear", "bicubic")) for _ in range(DRAWS)]
    with mock.patch.object(functional, "get_image_size", lambda image: [size[1], size[0]]):
        timms = [RandomResizedCropAndInterpolation.get_params(None, scale, ratio) for _ in range(DRAWS)]
    ours = [(c.top, c.left, c.rows, c.columns) for c in crops]
    assert agree(ours, timms)
    assert agree([r * c for *_, r, c in ours], [r * c for *_, r, c in timms])
    assert agree([c / r for *_, r, c in ours], [c / r for *_, r, c in timms])
    assert abs(np.mean([c.interpolation == "bicubic" for c in crops]) - 0.5) < LIMIT * 0.5 / DRAWS**0.5


@needs_timm
@pytest.mark.parametrize("text", ["rand-m9-mstd0.5", "rand-m9-mstd0.5-inc1", "rand-m8-mstd101-p0.8-n3",
                                  "rand-m5-mstd3-tweights"])
def test_rand_augment(text):
    """timm's operations do nothing here but to note what they are called with."""
    from PIL import Image
    from timm.data.auto_augment import rand_augment_transform

    rng, config, reference, noted = np.random.default_rng(5), parse_rand_augment(text), rand_augment_transform(text), []

    def note(name):
        def operation(image, *arguments, resample, fillcolor):
            noted[-1].append((name, *arguments, random.choice(resample) if name in GEOMETRIC else None))
        return operation

    for op in reference.ops:
        op.aug_fn = note(op.name)
    for _ in range(DRAWS):
        noted.append([])
        reference(None)
    drawn = [config.draw(rng, ("bilinear", "bicubic")) for _ in range(DRAWS)]
    assert agree([len(operations) for operations in drawn], [len(operations) for operations in noted])
    for name in config.operations:
        ours = [[op for op in operations if op.name == name] for operations in drawn]
        timms = [[op for op in operations if op[0] == name] for operations in noted]
        assert agree([len(found) for found in ours], [len(found) for found in timms])
        ours, timms = sum(ours, []), sum(timms, [])
        if ours and ours[0].argument is not None:
            assert agree([op.argument for op in ours], [op[1] for op in timms])
        if name in GEOMETRIC:
            assert agree([op.interpolation == "bicubic" for op in ours],
                         [op[-1] == Image.Resampling.BICUBIC for op in timms])


@needs_timm
def test_color_jitter():
    from torchvision.transforms import ColorJitter

    jitter, rng = ColorJitter(0.4, 1.5, 0.2, 0.1), np.random.default_rng(6)
    timms = [jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) for _ in range(DRAWS)]
    ours = [draw_jitter(rng, (0.4, 1.5, 0.2, 0.1)) for _ in range(DRAWS)]
    names = ("brightness", "contrast", "saturation", "hue")
    assert agree([[dict(drawn)[name] for name in names] for drawn in ours], [factors for _, *factors in timms])
    assert agree([[[name for name, _ in drawn].index(name) for name in names] for drawn in ours],
                 [[order.tolist().index(i) for i in range(4)] for order, *_ in timms])


@needs_timm
@pytest.mark.parametrize("mode, most", [("const", 1), ("pixel", 1), ("rand", 3)])
def test_erasures(mode, most):
    """timm erases an array that notes where; the noise is torch's and NumPy's normal distribution."""
    from timm.data.random_erasing import RandomErasing

    H, W, C, rng, found = 32, 48, 3, np.random.default_rng(7), []

    class Picture:
        dtype = torch.float32

        def size(self):
            return C, H, W

        def __setitem__(self, where, values):
            rows, columns = where[1:]
            found[-1].append((rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start,
                              values.numpy()))

    eraser = RandomErasing(0.7, mode=mode, max_count=most, device="cpu")
    for _ in range(DRAWS):
        found.append([])
        eraser(Picture())
    drawn = [[(e.top, e.left, e.rows, e.columns, e.values) for e in draw_erasures(rng, (H, W, C), 0.7, mode, most)]
             for _ in range(DRAWS)]
    assert agree([len(erasures) for erasures in drawn], [len(erasures) for erasures in found])
    ours, timms = sum(drawn, []), sum(found, [])
    assert agree([erasure[:4] for erasure in ours], [erasure[:4] for erasure in timms])
    if mode == "const":
        assert not any(values.any() for *_, values in ours + timms)
    else:
        values, others = (np.concatenate([values.ravel()[:3] for *_, values in some]) for some in (ours, timms))
        assert agree(values, others) and agree(values**2, others**2)
