"""The promise: for every variant, a checkpoint saved by torch and converted by us gives timm's logits."""
import functools

import numpy as np
import pytest
from live import calibrated, logits, needs_timm, torch
from tolerance import LOGITS, assert_close

import npefficient
import weights_convert

VARIANTS = [f"lite{i}" for i in range(5)]
BACKENDS = ["engine", "reference"]
NATIVE = {v: npefficient.network.variants.VARIANTS[f"tf_efficientnet_{v}"].preprocessing.input_size for v in VARIANTS}
ODD = [(225, 224), (223, 301), (33, 47), (1, 1)]

pytestmark = needs_timm


def assert_timm(got, expected):
    """max |difference| <= 2e-5 * max(1, largest |logit|), and the same five classes in the same order."""
    assert_close(got, expected, LOGITS)
    np.testing.assert_array_equal(npefficient.top_k(got)[1], npefficient.top_k(expected)[1])


def test_assert_timm_can_fail():
    expected = np.linspace(-1, 1, 10, dtype=np.float32)[None]
    assert_timm(expected + np.float32(1e-5), expected)
    with pytest.raises(AssertionError, match="not equal"):
        assert_timm(np.zeros_like(expected), expected * 1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="module")
def model(folder):
    """get(variant, zip or legacy, backend, num_classes, in_chans): through torch.save, convert and create_model."""

    @functools.cache
    def converted(variant, form, num_classes, in_chans):
        checkpoint = folder / f"tf_efficientnet_{variant}_{form}_{num_classes}_{in_chans}.pth"
        state = calibrated(variant, num_classes, in_chans).state_dict()
        torch.save(state, checkpoint, _use_new_zipfile_serialization=form == "zip")
        return weights_convert.convert(checkpoint).target

    @functools.cache
    def get(variant, form="zip", backend="engine", num_classes=1000, in_chans=3):
        path = converted(variant, form, num_classes, in_chans)
        return npefficient.create_model(variant, checkpoint_path=path, backend=backend, num_threads=2)

    return get


def pixels(batch, size, channels=3):
    return np.random.default_rng([batch, *size]).uniform(-1, 1, (batch, *size, channels)).astype(np.float32)


@functools.cache
def expected_logits(variant, batch, size, num_classes=1000, in_chans=3):
    return logits(calibrated(variant, num_classes, in_chans), pixels(batch, size, in_chans))


# The plain network reads the same file, so one format is enough for it.
@pytest.mark.parametrize("form, backend", [("zip", "engine"), ("legacy", "engine"), ("legacy", "reference")])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_at_native_size(model, variant, batch, form, backend):
    size = NATIVE[variant]
    assert_timm(model(variant, form, backend)(pixels(batch, size)), expected_logits(variant, batch, size))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", ODD, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_at_other_sizes(model, variant, size, backend):
    assert_timm(model(variant, "zip", backend)(pixels(1, size)), expected_logits(variant, 1, size))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("num_classes, in_chans", [(10, 3), (1000, 1), (10, 1)], ids=["10_classes", "grey", "both"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_with_other_classes_and_channels(model, variant, num_classes, in_chans, backend):
    got = model(variant, "zip", backend, num_classes, in_chans)(pixels(2, (97, 64), in_chans))
    assert_timm(got, expected_logits(variant, 2, (97, 64), num_classes, in_chans))
