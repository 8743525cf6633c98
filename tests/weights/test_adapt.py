"""Adapting weights: what changes, what stays, and that the given weights are neither modified nor copied."""
import functools
import gc
import hashlib
import weakref
from unittest import mock

import numpy as np
import pytest

import npefficient
from npefficient.errors import ArgumentError, WeightsError
from npefficient.model import loading
from npefficient.network.architecture import build
from npefficient.network.parameters import check_parameters, random_weights
from npefficient.weights.adapt import adapt, adapt_stem
from npefficient.weights.weight_file import write_weights

LABELS = tuple("abcde")
X = np.random.default_rng(0).uniform(-1, 1, (1, 9, 9, 3)).astype(np.float32)


@functools.cache
def weights(**network):
    made = random_weights(build(**{"name": "lite0", "num_classes": 5, **network}))
    return npefficient.network.parameters.Weights(made.architecture, made.parameters, made.preprocessing,
                                          LABELS if made.architecture.num_classes == 5 else None, made.source)


def digest(given):
    """Copies of all parameter arrays."""
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in given.parameters.items()}


# --- the stem --------------------------------------------------------------------------------------------------------


def test_adapt_stem_by_hand():
    weight = np.array([[1, 2, 4], [0, -3, 6]], np.float32).reshape(2, 3, 1, 1)
    for in_chans, right in (
            (1, [[7], [3]]),
            (2, [[1.5, 3], [0, -4.5]]),  # the first two, times 3 / 2
            (3, [[1, 2, 4], [0, -3, 6]]),
            (4, [[0.75, 1.5, 3, 0.75], [0, -2.25, 4.5, 0]]),  # from the first again, times 3 / 4
            (6, [[0.5, 1, 2, 0.5, 1, 2], [0, -1.5, 3, 0, -1.5, 3]])):
        np.testing.assert_array_equal(adapt_stem(weight, in_chans)[:, :, 0, 0], np.array(right, np.float32))


def test_adapt_stem_sums_float16_in_float32():
    """2048 + 1 + 1 would be 2048 if each sum were rounded to float16."""
    weight = np.array([2048, 1, 1], np.float16).reshape(1, 3, 1, 1)
    got = adapt_stem(weight, 1)
    assert got.dtype == np.float16 and got[0, 0, 0, 0] == 2050


@pytest.mark.parametrize("channels, in_chans", [(1, 3), (1, 1), (4, 2), (4, 8)])
def test_adapt_stem_of_other_channels_keeps_the_size(channels, in_chans):
    """A picture repeated in all channels gives the same output, if the number of channels is a multiple of three."""
    weight = np.random.default_rng(0).normal(0, 1, (5, channels, 3, 3)).astype(np.float32)
    got = adapt_stem(weight, in_chans)
    assert got.shape == (5, in_chans, 3, 3)
    if in_chans % channels == 0:
        np.testing.assert_allclose(got.sum(1), weight.sum(1), rtol=0, atol=1e-5)


# --- weights ---------------------------------------------------------------------------------------------------------

WISHES = [
    {}, {"num_classes": 5}, {"num_classes": 3}, {"num_classes": 0}, {"in_chans": 1}, {"in_chans": 4},
    {"global_pool": "max"}, {"num_classes": 0, "global_pool": ""}, {"num_classes": 2, "global_pool": "catavgmax"},
    {"num_classes": 3, "in_chans": 2, "global_pool": "avgmax"}, {"new_classifier": True},
]


@pytest.mark.parametrize("wishes", WISHES, ids=lambda w: "-".join(f"{k}={v}" for k, v in w.items()) or "nothing")
@pytest.mark.parametrize("network", [{}, {"num_classes": 0}, {"global_pool": "catavgmax"}],
                         ids=["classifier", "none", "wide"])
def test_adapt(network, wishes):
    """The requested architecture, weights that fit it, everything else unchanged, and the input unmodified."""
    given = weights(**network)
    before, old = digest(given), given.architecture
    wide = old.global_pool == "catavgmax"
    if wide and wishes.get("global_pool", "catavgmax") != "catavgmax" and "num_classes" not in wishes:
        with pytest.raises(ArgumentError, match="gives 1280 features: the classifier takes 2560"):
            adapt(given, **wishes)
        return
    if wishes.get("global_pool") == "" and wishes.get("num_classes", old.num_classes):
        return
    made = adapt(given, **wishes)
    wanted = {"num_classes": old.num_classes, "in_chans": old.in_chans, "global_pool": old.global_pool,
              **{k: v for k, v in wishes.items() if k != "new_classifier"}}
    assert made.architecture == build("lite0", **wanted)
    check_parameters(made.parameters, made.architecture)
    assert digest(given) == before and given.architecture == old
    assert (made.preprocessing, made.source) == (given.preprocessing, given.source)
    other = wishes.get("new_classifier") or made.architecture.num_classes != old.num_classes
    assert made.labels == (None if other else given.labels)
    for name in made.parameters.keys() & given.parameters.keys():
        changed = name.startswith("classifier.") and other or name == "conv_stem.weight" and "in_chans" in wishes
        assert (made.parameters[name] is given.parameters[name]) == (not changed), name


def test_adapt_keeps_a_dtype():
    given = weights()
    half = npefficient.network.parameters.Weights(given.architecture, {
        name: array if array.dtype == np.int64 else array.astype(np.float16) for name, array in given.parameters.items()
    }, given.preprocessing, given.labels, given.source)
    assert adapt(half, in_chans=1).parameters["conv_stem.weight"].dtype == np.float16
    assert adapt(half, num_classes=5).parameters["classifier.weight"].dtype == np.float16


def test_adapt_is_seeded():
    once, again = (adapt(weights(), num_classes=7).parameters["classifier.weight"] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert abs(once.std() - 1280**-0.5) < 1e-3 and once.dtype == np.float32


@pytest.mark.parametrize("wishes, message", [
    ({"num_classes": -1}, "num_classes -1: it must be a whole number of at least 0"),
    ({"num_classes": 1.5}, "num_classes 1.5: it must be a whole number"),
    ({"in_chans": 0}, "in_chans 0: it must be a whole number of at least 1"),
    ({"in_chans": True}, "in_chans True: it must be a whole number"),
    ({"global_pool": "min"}, "global_pool 'min': it must be one of 'avg', 'max', 'avgmax', 'catavgmax', ''"),
    ({"global_pool": ""}, "global_pool '' with 5 classes: a classifier needs pooled features"),
    ({"global_pool": None, "num_classes": "3"}, "num_classes '3': it must be a whole number"),
    ({"global_pool": "catavgmax"}, "global_pool 'catavgmax' gives 2560 features: the classifier takes 1280; choose "
                                   "a different pool, or a different number of classes for a new classifier"),
], ids=lambda value: None if isinstance(value, str) else "-".join(value))
def test_adapt_refuses(wishes, message):
    with pytest.raises(ArgumentError, match=message):
        adapt(weights(), **wishes)


# --- no second copy of the weights -----------------------------------------------------------------------------------


def owner(array):
    """The array that owns the memory: all arrays of a file share one block."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def alive(make):
    """Bytes of the loaded weights that are still alive once `make` has made a model, and the model."""
    references = []

    def noted(load):
        def call(*arguments, **options):
            made = load(*arguments, **options)
            owners = {id(one): one for one in map(owner, made.parameters.values())}
            references.extend(map(weakref.ref, owners.values()))
            return made

        return call

    with mock.patch.object(loading, "random_weights", noted(loading.random_weights)), \
            mock.patch.object(loading, "load_stored", noted(loading.load_stored)):
        made = make()
    assert references
    gc.collect()
    return sum(one.nbytes for one in (reference() for reference in references) if one is not None), made


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("adapt") / "five.h5"
    write_weights(path, weights())
    return path


def test_a_model_holds_no_second_copy(file):
    for make in (lambda: npefficient.create_model("lite0", num_classes=5),
                 lambda: npefficient.create_model(checkpoint_path=file),
                 lambda: npefficient.create_model(checkpoint_path=file, num_classes=0),
                 lambda: npefficient.create_model(checkpoint_path=file, features_only=True)):
        held, model = alive(make)
        assert held == 0, model
    held, model = alive(lambda: changed(npefficient.create_model(checkpoint_path=file)))
    assert held == 0 and model.num_classes == 3


def changed(model):
    model.reset_classifier(3)
    return model


def test_a_second_copy_would_be_seen(file):
    """The plain network holds its weights, and so does an engine once it was asked for a map that it never computes."""
    size = sum(array.nbytes for array in weights().parameters.values())
    for options in ({"model_name": "lite0", "num_classes": 5}, {"checkpoint_path": file}):
        assert alive(lambda: npefficient.create_model(backend="reference", **options))[0] > 0.9 * size

    def make():
        model = npefficient.create_model(checkpoint_path=file)
        model.activations(X, ["conv_stem"])
        return model

    assert alive(make)[0] > 0.9 * size


# --- a file that changes ---------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    """A new weight file, which the test may change."""
    path = tmp_path / "five.h5"
    write_weights(path, weights())
    return path


@pytest.mark.parametrize("other", [
    lambda: random_weights(build("lite0", 5), 1), lambda: random_weights(build("lite1", 5)),
    lambda: adapt(weights(), num_classes=4), lambda: adapt(weights(), num_classes=0),
    lambda: adapt(weights(), in_chans=1),
], ids=["values", "variant", "classes", "no_classifier", "channels"])
def test_a_file_that_has_changed_is_noticed(stored, other):
    model = npefficient.create_model(checkpoint_path=stored, num_threads=1)
    before = model(X), model.activations(X, ["bn1"])["bn1"]
    write_weights(stored, other(), force=True)
    with pytest.raises(WeightsError, match="the weights of '.*five.h5' have changed since this model was created: "
                                           "create the model again"):
        model.activations(X, ["conv_stem"])
    np.testing.assert_array_equal(model(X), before[0])  # the engine's own copy is unchanged
    np.testing.assert_array_equal(model.activations(X, ["bn1"])["bn1"], before[1])


def test_a_file_that_is_gone_is_named(stored):
    model = npefficient.create_model(checkpoint_path=stored, num_threads=1)
    stored.unlink()
    with pytest.raises(WeightsError, match="five.h5"):
        model.activations(X, ["conv_stem"])
    with pytest.raises(WeightsError, match="five.h5"):
        model.reset_classifier(3)


def test_a_file_that_is_written_again_as_it_was_is_well(stored):
    model = npefficient.create_model(checkpoint_path=stored, num_threads=1)
    write_weights(stored, weights(), force=True)
    assert model.activations(X, ["conv_stem"])["conv_stem"].shape == (1, 5, 5, 32)


def test_a_file_is_read_once_for_what_the_engine_never_forms(stored):
    """Afterwards the file may change, since the plain network has been loaded."""
    model = npefficient.create_model(checkpoint_path=stored, num_threads=1)
    before = model.activations(X, ["conv_stem", "blocks.2.1.bn3"])
    write_weights(stored, random_weights(build("lite0", 5), 1), force=True)
    for name, array in model.activations(X, list(before)).items():
        np.testing.assert_array_equal(array, before[name])
