"""Parameters, labels and sources are checked; random weights are repeatable and keep a network alive."""
import numpy as np
import pytest

from npefficient.errors import WeightsError
from npefficient.network import architecture, reference
from npefficient.network.parameters import Source, check_labels, check_parameters, check_source, random_weights

LITE0 = architecture.build("lite0", 2)
VARIANTS = ("lite0", "lite1", "lite2", "lite3", "lite4")


@pytest.fixture(scope="module")
def whole():
    return random_weights(LITE0).parameters


# --- check_parameters ------------------------------------------------------------------------------------------------


def with_value(array, value):
    array = array.copy()
    array.flat[-1] = value
    return array


def test_check_parameters_accepts(whole):
    check_parameters(whole, LITE0)
    check_parameters({k: v if v.ndim == 0 else v.astype(np.float16) for k, v in whole.items()}, LITE0)
    check_parameters(dict(reversed(whole.items())), LITE0)  # any order will do


SPOILT = {  # name -> its new value (None: removed), message
    "missing": ("bn1.bias", lambda a: None, r"missing 'bn1.bias' \(32,\)"),
    "masked": ("bn1.bias", lambda a: np.ma.masked_invalid(with_value(a, np.nan)), "'bn1.bias' is of type MaskedArray"),
    "list": ("bn1.bias", lambda a: a.tolist(), "'bn1.bias' is of type list: it must be a plain NumPy array"),
    "missing_count": ("bn1.num_batches_tracked", lambda a: None, r"missing 'bn1.num_batches_tracked' \(\)"),
    "unexpected": ("bn9.bias", lambda a: np.zeros(7, np.float32), r"unexpected 'bn9.bias' \(7,\)"),
    "shape": ("bn1.bias", lambda a: a[:31], r"'bn1.bias' is \(31,\) instead of \(32,\)"),
    "rank": ("bn1.bias", lambda a: a[None], r"'bn1.bias' is \(1, 32\) instead of \(32,\)"),
    "scalar": ("bn1.bias", lambda a: a[0], r"'bn1.bias' is \(\) instead of \(32,\)"),
    "transposed": ("classifier.weight", lambda a: a.T, r"'classifier.weight' is \(1280, 2\) instead of \(2, 1280\)"),
    "classes": ("classifier.bias", lambda a: np.zeros(3, np.float32), r"\(3,\) instead of \(2,\)"),
    "float64": ("bn1.bias", lambda a: a.astype(np.float64), "'bn1.bias' is float64 instead of float32 or float16"),
    "big_endian": ("bn1.bias", lambda a: a.astype(">f4"), "'bn1.bias' is >f4 instead of float32"),
    "int32": ("bn1.bias", lambda a: a.astype(np.int32), "'bn1.bias' is int32"),
    "complex": ("bn1.bias", lambda a: a.astype(np.complex64), "'bn1.bias' is complex64"),
    "objects": ("bn1.bias", lambda a: a.astype(object), "'bn1.bias' is object"),
    "count_int32": ("bn1.num_batches_tracked", lambda a: a.astype(np.int32), "is int32 instead of int64"),
    "count_shape": ("bn1.num_batches_tracked", lambda a: a[None], r"is \(1,\) instead of \(\)"),
    "nan": ("conv_head.weight", lambda a: with_value(a, np.nan), "'conv_head.weight' holds nan"),
    "inf": ("conv_stem.weight", lambda a: with_value(a, np.inf), "'conv_stem.weight' holds inf"),
    "minus_inf": ("bn2.running_mean", lambda a: with_value(a, -np.inf), "'bn2.running_mean' holds -inf"),
    "nan_float16": ("bn2.bias", lambda a: with_value(a.astype(np.float16), np.nan), "'bn2.bias' holds nan"),
    "nan_variance": ("bn2.running_var", lambda a: with_value(a, np.nan), "'bn2.running_var' holds nan"),
    "negative_variance": ("bn2.running_var", lambda a: with_value(a, -0.25), "'bn2.running_var' holds -0.25"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_check_parameters_refuses(whole, case):
    name, change, message = SPOILT[case]
    parameters = dict(whole)
    changed = change(parameters.pop(name, None))
    if changed is not None:
        parameters[name] = changed
    with pytest.raises(WeightsError, match=message):
        check_parameters(parameters, LITE0)


def test_check_parameters_zero_variance_is_allowed(whole):
    """A dead channel has a variance of 0; the epsilon keeps the division finite. -0.0 is not negative."""
    check_parameters({**whole, "bn1.running_var": np.full(32, -0.0, np.float32)}, LITE0)


def test_check_parameters_reports_all_at_once(whole):
    parameters = {**whole, "bn1.bias": whole["bn1.bias"][:3], "extra": np.zeros(1),
                  "bn1.weight": whole["bn1.weight"] * 1j}
    del parameters["bn2.bias"]
    with pytest.raises(WeightsError, match="missing 'bn2.bias'") as caught:
        check_parameters(parameters, LITE0)
    for part in ("tf_efficientnet_lite0 (2 classes, 3 input channels)", "missing 'bn2.bias'",
                 "unexpected 'extra'", "'bn1.bias' is (3,)", "'bn1.weight' is complex"):
        assert part in str(caught.value)


def test_check_parameters_shows_twenty_of_many(whole):
    with pytest.raises(WeightsError, match="missing 'blocks.*; and 276 more$") as caught:
        check_parameters({}, LITE0)
    assert str(caught.value).count("missing") == 20 and len(whole) == 296


# --- labels and sources ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["cat", "tench, Tinca tinca", "Zwölf Boxkämpfer", "犬", "🐶",
                                   "n0144\ttench", " a ", "\u200d x", "\xa0a"])
def test_check_labels_accepts(label):
    assert check_labels([label, "b"], 2) == (label, "b")


def test_check_labels_absent_or_equal():
    assert check_labels(None, 5) is None
    assert check_labels(iter(["crane", "crane"]), 2) == ("crane", "crane")  # ImageNet has two of them


@pytest.mark.parametrize("label", ["", " ", "\t", "\n", "a\nb", "a\n", "a\r", "a\x0bb", "a\x85b", "a\u2028b",
                                   "\x1b[2J", "a\0", "\u202ea", "\x7f", "\x9b31m", "\ud800", 7, None, b"cat"],
                         ids=ascii)
def test_check_labels_refuses(label):
    with pytest.raises(WeightsError, match="label 1 is "):
        check_labels(["a", label], 2)


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_check_labels_count(count):
    with pytest.raises(WeightsError, match=f"^{count:,} labels? for 2 classes"):
        check_labels(["a"] * count, 2)


@pytest.mark.parametrize("source, message", [
    (Source("a\nb", "", "c"), r"source name 'a\\nb'"), (Source("a", "", "\x1b"), r"source kind '\\x1b'"),
    (Source("a", "ab", "c"), "source sha256 'ab'"), (Source("a", "A" * 64, "c"), "source sha256 'AAA"),
    (Source("a", "0" * 64 + "\n", "c"), "source sha256 '0000")], ids=["name", "kind", "short", "capitals", "newline"])
def test_check_source_refuses(source, message):
    with pytest.raises(WeightsError, match=message):
        check_source(source)


def test_check_source_accepts():
    check_source(Source("mödel.pth", "0123456789abcdef" * 4, "torch-zip"))
    check_source(random_weights(LITE0).source)


# --- random weights --------------------------------------------------------------------------------------------------


def test_random_weights_depend_on_the_seed_alone():
    first, again, other = (random_weights(LITE0, seed) for seed in (3, 3, 4))
    for name, array in first.parameters.items():
        assert np.array_equal(array, again.parameters[name]), name
        drawn = array.ndim and "running" not in name and (array != array.flat[0]).any()
        assert not drawn or not np.array_equal(array, other.parameters[name]), name
    assert first.source == Source("seed 3", "", "random") and other.source.name == "seed 4"


def test_random_weights_leave_the_global_generator_alone():
    before = np.random.get_state()[1].copy()
    random_weights(LITE0)
    assert np.array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_random_weights_fit_the_architecture(variant):
    network = architecture.build(variant, 7, 4)
    weights = random_weights(network)
    check_parameters(weights.parameters, network)
    assert list(weights.parameters) == list(network.parameters())
    assert all(array.dtype == np.float32 for array in weights.parameters.values() if array.ndim)
    assert (weights.labels, weights.preprocessing) == (None, network.variant.preprocessing)


def shares(monkeypatch, network, parameters, x):
    """Logits, and the share of values at 0 and at 6 after every ReLU6."""
    at_zero, at_six = [], []
    clamp = reference.relu6

    def watched(values):
        out = clamp(values)
        at_zero.append(float((out == 0).mean()))
        at_six.append(float((out == 6).mean()))
        return out
    monkeypatch.setattr(reference, "relu6", watched)
    return reference.Network(network, parameters)(x), at_zero, at_six


def pictures(size):
    """A colour gradient, a chess board and noise: float32 (3, size, size, 3)."""
    row, column = np.mgrid[:size, :size] / (size - 1)
    board = ((row * 8).astype(int) + (column * 8).astype(int)) % 2 * 2.0 - 1
    noise = np.random.default_rng(0).uniform(-1, 1, (size, size, 3))
    gradient = np.stack([row, column, 1 - row], -1) * 2 - 1
    return np.stack([gradient, board[..., None] * [1, -1, 0.3], noise]).astype(np.float32)


def is_alive(logits, at_zero, at_six) -> bool:
    sizes, contrast = logits.std(), (logits - logits.mean(0)).std()
    return bool(0.1 < sizes < 10 and contrast > 0.1 * sizes and max(at_zero) < 0.8 and max(at_six) < 0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_random_weights_keep_the_network_alive(monkeypatch, variant):
    """Logits of ordinary size differ between pictures; no layer is all 0 or all 6."""
    network = architecture.build(variant)
    x = pictures(64)
    logits, at_zero, at_six = shares(monkeypatch, network, random_weights(network).parameters, x)
    assert len(at_zero) == sum(conv.relu6 for conv in network.convs)
    assert is_alive(logits, at_zero, at_six), (logits.std(), max(at_zero), max(at_six))


def scaled(parameters, leaf, factor):
    return {k: v * np.float32(factor) if ".bn" in f".{k}" and k.endswith(leaf) else v for k, v in parameters.items()}


@pytest.mark.parametrize("spoil", [
    lambda p: scaled(scaled(p, ".bias", 0.01), ".weight", 0.01), lambda p: scaled(p, ".weight", 50.0),
    lambda p: scaled(p, ".bias", -9.0), lambda p: scaled(p, ".running_mean", 0.0)],
    ids=["fades", "saturates", "dies", "all_pictures_alike"])
def test_random_weights_check_can_fail(monkeypatch, spoil):
    """Wrong batch norms show; without their means all pictures get the same logits."""
    x = pictures(64)
    parameters = random_weights(LITE0).parameters
    assert is_alive(*shares(monkeypatch, LITE0, parameters, x))
    monkeypatch.undo()
    assert not is_alive(*shares(monkeypatch, LITE0, spoil(parameters), x))
