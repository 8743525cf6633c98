"""Whatever the public functions are given, they return an answer or raise one of the package's own errors."""
import functools
import io
import itertools
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small import small_model, small_weights

import npefficient
from npefficient.errors import ArgumentError, NpefficientError
from npefficient.model import loading
from npefficient.model import model as module
from npefficient.model.model import Model

NUMBERS = {
    "true": True, "zero": 0, "minus": -1, "billion": 10**9, "huge": 10**30, "minus_huge": -10**30,
    "more_digits_than_python_writes": 10**5000, "half": 0.5, "nan": float("nan"), "inf": float("inf"), "complex": 1j,
    "fraction": Fraction(1, 3), "decimal_nan": Decimal("NaN"), "np_int": np.int64(3), "np_uint": np.uint64(2**63),
    "np_float": np.float32(2), "np_nan": np.float64("nan"), "np_bool": np.True_,
}
THINGS = {
    "none": None, "empty": "", "word": "nope", "long": "a" * 300, "nul": "a\0b", "half_a_character": "\ud800",
    "bytes": b"abc", "path": Path("nope.h5"), "folder": Path("."), "list": [], "tuple": (1, 2, 3),
    "ragged": [[1], [2, 3]], "set": {1}, "dict": {"a": 1}, "whole_to_whole": {1: 2}, "class": dict, "function": len,
    "object": object(), "file": io.BytesIO(b"x"), "ellipsis": ...,
}
ARRAYS = {
    "array": np.zeros((2, 3)), "no_values": np.empty(0), "no_axes": np.array(3), "objects": np.array([None, {}]),
    "records": np.zeros(2, "i4,f4"), "complexes": np.ones((2, 2), complex), "texts": np.array(["a", "b"]),
    "dates": np.array(["2020-01-01"], "M8[D]"), "masked": np.ma.masked_array([1.0, 2.0], [0, 1]),
    "records_by_attribute": np.rec.array([(1, 2.0)]),
}
ODD = NUMBERS | THINGS | ARRAYS
FLAGS = NUMBERS | THINGS  # an array has no truth value, which is NumPy's error
X, PHOTO = np.zeros((1, 32, 32, 3), np.float32), np.zeros((9, 9, 3), np.uint8)


def refused(call, values=ODD) -> int:
    """How many of the values `call` refuses with an error of the package; any other error fails the test."""
    count = 0
    for name, value in values.items():
        try:
            call(value)
        except NpefficientError as error:
            assert str(error).strip(), name
            count += 1
        except Exception as error:
            raise AssertionError(f"{name} leads to {type(error).__name__}: {error}") from error
    return count


@pytest.fixture
def create(monkeypatch):
    """`create_model` up to the point where a network is built."""
    monkeypatch.setattr(loading, "random_weights", lambda network: small_weights())
    monkeypatch.setattr(module, "Model", lambda weights, **how: small_model())
    return npefficient.create_model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["model_name", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path",
                                  "num_classes", "in_chans", "global_pool", "out_indices", "backend", "bn_eps",
                                  "pad_type", "device", "img_size", "more"])
def test_create_model_refuses_odd_arguments(create, name):
    assert refused(lambda value: create(**{"model_name": "lite0", name: value})) > 30
    if name == "out_indices":
        assert refused(lambda value: create("lite0", features_only=True, out_indices=value)) > 30


@pytest.mark.parametrize("name", loading.SETTINGS)
def test_odd_settings_are_refused(create, name):
    assert refused(lambda value: create("lite0", pretrained_cfg_overlay={name: value})) > 20
    assert refused(lambda value: npefficient.resolve_data_config({name: value}, model=small_model())) > 20
    assert refused(lambda value: npefficient.create_transform(**{name: value})) > 20


@pytest.mark.parametrize("call, least", [
    (lambda value: small_model()(value), 40), (lambda value: small_model().forward_features(value), 40),
    (lambda value: small_model().forward_head(value), 40),
    (lambda value: small_model().activations(value, ["bn1"]), 40),
    (lambda value: small_model().activations(X, value), 40),
    (lambda value: small_model().forward_intermediates(X, value), 30),
    (lambda value: small_model().forward_intermediates(X, output_fmt=value), 40),
    (lambda value: small_model().transform(value), 40), (lambda value: small_model().to(value), 30),
    (lambda value: npefficient.top_k(np.arange(5.0), value), 30), (lambda value: npefficient.top_k(value), 20),
    (lambda value: npefficient.softmax(value), 20),
    (lambda value: npefficient.open_image(value), 40), (lambda value: npefficient.open_image("no", draft=value), 40),
    (lambda value: npefficient.open_image("no", max_pixels=value), 40),
    (lambda value: npefficient.open_image("no", in_chans=value), 40),
    (lambda value: npefficient.transform(PHOTO, value), 40),
    (lambda value: npefficient.transform(PHOTO, in_chans=value), 40),
    (lambda value: npefficient.transform_batch(value), 30),
    (lambda value: npefficient.transform_batch([], in_chans=value), 40),
    (lambda value: npefficient.list_models(value), 20), (lambda value: npefficient.list_models(module=value), 20),
    (lambda value: npefficient.get_pretrained_cfg(value), 40), (lambda value: Model(value), 40),
    (lambda value: Model(small_weights(), backend=value), 40), (lambda value: npefficient.load_weights(value), 40),
    (lambda value: npefficient.convert(value), 40), (lambda value: npefficient.convert("no.pth", value), 40),
    (lambda value: npefficient.export(value, "no.safetensors"), 40),
    (lambda value: npefficient.resolve_data_config(value), 30),
    (lambda value: npefficient.resolve_data_config(model=value), 40),
], ids=range(31))
def test_public_functions_refuse_odd_arguments(call, least):
    assert refused(call) >= least


def test_is_model_is_true_or_false():
    assert refused(npefficient.is_model) == refused(npefficient.is_model_pretrained) == 0


def test_odd_targets_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(small_model().save) == len(ODD) - 1  # "nope.h5" is a name
    small_model().save("a.h5")
    folders = {"folder": ODD["folder"]}
    assert refused(lambda value: npefficient.export("a.h5", value), {k: ODD[k] for k in ODD.keys() - folders}) > 40


@functools.cache
def exchanged():
    """A model that only these tests change."""
    return Model(small_weights(), num_threads=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["bn1.weight", "conv_stem.weight", "classifier.weight", "classifier.bias"])
def test_load_state_dict_refuses_odd_arguments(name):
    state = exchanged().state_dict()
    assert refused(exchanged().load_state_dict) == len(ODD)
    assert refused(lambda value: exchanged().load_state_dict({**state, name: value})) == len(ODD)
    assert refused(lambda value: exchanged().load_state_dict({**state, value: X}),
                   {k: v for k, v in ODD.items() if v.__hash__}) > 30


def test_set_and_reset_classifier_refuse_odd_arguments():
    m, weight, bias = exchanged(), np.zeros((2, 1280)), np.zeros(2)
    assert refused(lambda value: m.set_classifier(value, bias)) == len(ODD)
    assert refused(lambda value: m.set_classifier(weight, value)) == len(ODD)
    assert refused(lambda value: m.set_classifier(weight, bias, value), ODD | {"endless": itertools.count()}) > 40
    assert refused(lambda value: m.reset_classifier(3, value), THINGS | ARRAYS) == len(THINGS | ARRAYS) - 1  # None
    counts = {k: v for k, v in ODD.items() if k not in ("zero", "np_int")}
    assert refused(m.reset_classifier, counts) == len(counts)


def test_an_exception_of_the_users_own_passes():
    def labels():
        yield "a"
        raise RuntimeError("theirs")

    with pytest.raises(RuntimeError, match="theirs"):
        small_model().set_classifier(np.zeros((2, 1280)), np.zeros(2), labels())


@pytest.mark.parametrize("what, call", [
    ("input", lambda masked: small_model()(masked(X))),
    ("weight", lambda masked: small_model().set_classifier(masked(np.zeros((2, 1280))), np.zeros(2))),
    ("bias", lambda masked: small_model().set_classifier(np.zeros((2, 1280)), masked(np.zeros(2)))),
    (r"state_dict\['bn1.bias'\]", lambda masked: small_model().load_state_dict(
        {**small_weights().parameters, "bn1.bias": masked(small_weights().parameters["bn1.bias"])})),
    ("image", lambda masked: small_model().transform(masked(PHOTO))),
    ("scores", lambda masked: npefficient.top_k(masked(np.zeros(5)))),
], ids=["input", "weight", "bias", "state_dict", "image", "scores"])
def test_masked_arrays_keep_their_mask(what, call):
    with pytest.raises(ArgumentError, match=f"{what} is a masked array, and no value can be left out: .*filled"):
        call(lambda array: np.ma.masked_array(array, np.zeros(array.shape, bool)))


def test_arrays_of_a_file_are_taken(tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert np.array_equal(small_model()(np.load(tmp_path / "x.npy", mmap_mode="r")), small_model()(X))
