"""Models that are pickled, copied or sent to other processes give the same bits there, or an error."""
import copy
import dataclasses
import functools
import multiprocessing
import pickle

import fresh
import numpy as np
import pytest

import npefficient
from npefficient.errors import WeightsError
from npefficient.model.model import Model
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights

X = np.random.default_rng(0).uniform(-1, 1, (2, 17, 23, 3)).astype(np.float32)
LAYER = np.random.default_rng(1).normal(0, 0.1, (3, 1280)).astype(np.float32), np.array([0.1, 0, -0.1], np.float32)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sending") / "four.h5"
    write_weights(path, random_weights(build("lite0", 4), 3))
    return path


def of_file(file, **options):
    return npefficient.create_model(checkpoint_path=file, num_threads=2, **options)


def with_reset_classifier(file):
    model = of_file(file)
    model.reset_classifier(7, "max")
    model.reset_classifier(6)
    return model


def with_own_classifier(file):
    model = of_file(file)
    model.set_classifier(*LAYER, labels=["a", "b", "c"])
    return model


def with_other_weights(file):
    model = of_file(file)
    model.load_state_dict(random_weights(build("lite0", 4), 5).parameters)
    return model


MODELS = {  # how it is made, and the largest size of its pickle in bytes
    "file": (of_file, 2000),
    "adapted": (functools.partial(of_file, num_classes=0, global_pool="catavgmax"), 2000),
    "other_preprocessing": (functools.partial(of_file, pretrained_cfg_overlay={"input_size": (3, 40, 48)}), 2000),
    "reset": (with_reset_classifier, 2000),
    "own_classifier": (with_own_classifier, 4 * 1281 * 3 + 2000),
    "state_dict": (with_other_weights, 14_000_000),
    "random": (lambda file: npefficient.create_model("lite1", num_classes=5, in_chans=3), 2000),
    "in_memory": (lambda file: Model(random_weights(build("lite0", 4))), 14_000_000),
    "reference": (functools.partial(of_file, backend="reference"), 2000),
    "features": (functools.partial(of_file, features_only=True, out_indices=(1, 3)), 2000),
}


def values(model):
    """All outputs of a model, concatenated."""
    made = model(X)
    return np.concatenate([array.ravel() for array in (made if isinstance(made, list) else [made])])


def told(model) -> list:
    """What a model tells about itself."""
    whole = getattr(model, "model", model)
    return [repr(model), whole.labels, whole.num_threads, whole.backend, model.preprocessing, model.pretrained_cfg,
            model.feature_info, model.outputs]


@pytest.mark.parametrize("name", MODELS)
def test_copies_have_the_same_bits(name, file):
    make, most = MODELS[name]
    model = make(file)
    data = pickle.dumps(model)
    assert len(data) <= most
    for back in (pickle.loads(data), copy.deepcopy(model), copy.copy(model)):
        assert back is not model and told(back) == told(model)
        np.testing.assert_array_equal(values(back), values(model))
        assert abs(len(pickle.dumps(back)) - len(data)) < 500
    arrays, expected = (getattr(m, "model", m).state_dict() for m in (back, model))
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(arrays[key], array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(protocol, file):
    model = with_own_classifier(file)
    np.testing.assert_array_equal(values(pickle.loads(pickle.dumps(model, protocol))), values(model))


def test_threads_are_those_that_were_asked_for(file):
    """num_threads=None is decided by the process that makes the copy: it may have other processors."""
    for asked in (None, 1, 3):
        model = npefficient.create_model(checkpoint_path=file, num_threads=asked)
        _, (_, _, _, how) = model.__reduce__()
        assert how == {"num_threads": asked, "backend": "engine", "precision": "float32"}
        assert pickle.loads(pickle.dumps(model)).num_threads == model.num_threads


def test_changes_do_not_pile_up(file):
    """Of a hundred classifiers only the last one is sent."""
    model, bare = with_own_classifier(file), len(pickle.dumps(with_own_classifier(file)))
    for _ in range(3):
        model.reset_classifier(9)
        model.set_classifier(*LAYER, labels=["a", "b", "c"])
        model.set_classifier(*LAYER, labels=["a", "b", "c"])
    assert len(pickle.dumps(model)) < bare + 500
    np.testing.assert_array_equal(model(X), with_own_classifier(file)(X))
    model.reset_classifier(9)
    assert model.source.name == "seed 3" and len(pickle.dumps(model)) < 2000


@pytest.mark.parametrize("other", [
    lambda: random_weights(build("lite0", 4), 4), lambda: random_weights(build("lite0", 5), 3),
], ids=["values", "classes"])
def test_a_file_that_changes_on_the_way_is_noticed(other, tmp_path):
    path = tmp_path / "four.h5"
    write_weights(path, random_weights(build("lite0", 4), 3))
    model = npefficient.create_model(checkpoint_path=path)
    data = pickle.dumps(model)
    write_weights(path, other(), force=True)
    with pytest.raises(WeightsError, match="weights of '.*four.h5' are no longer those of the model that was"):
        pickle.loads(data)
    with pytest.raises(WeightsError, match="weights of '.*four.h5' have changed since this model was created"):
        pickle.dumps(model)
    path.unlink()
    with pytest.raises(WeightsError, match="four.h5"):
        pickle.loads(data)


def test_other_labels_or_settings_are_noticed_as_well(tmp_path):
    """They change the answer, but no weight."""
    path, weights = tmp_path / "four.h5", random_weights(build("lite0", 4), 3)
    for change in ({"labels": tuple("abcd")}, {"preprocessing": npefficient.Preprocessing((32, 32))}):
        write_weights(path, weights, force=True)
        data = pickle.dumps(npefficient.create_model(checkpoint_path=path))
        write_weights(path, dataclasses.replace(weights, **change), force=True)
        with pytest.raises(WeightsError, match="no longer those of the model that was pickled"):
            pickle.loads(data)


def test_a_relative_path_leads_there_from_anywhere(file, tmp_path, monkeypatch):
    monkeypatch.chdir(file.parent)
    model = npefficient.create_model(checkpoint_path=file.name, num_threads=1)
    data = pickle.dumps(model)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(pickle.loads(data)(X), model(X))


def logits(model, seed: int) -> bytes:
    """The function that a worker runs."""
    x = np.random.default_rng(seed).uniform(-1, 1, (1, 17, 23, 3)).astype(np.float32)
    return model(x).tobytes()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_gets_models(method, file):
    """As users call it: pool.map(partial(function, model), things)."""
    model = with_own_classifier(file)
    with multiprocessing.get_context(method).Pool(1) as pool:
        got = pool.map(functools.partial(logits, model), range(3))
    assert got == [logits(model, seed) for seed in range(3)]


def test_a_fresh_interpreter_unpickles(file, tmp_path):
    """A new interpreter, which has not imported the package, unpickles from a file."""
    model = with_reset_classifier(file)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    script = f"""
import pickle, numpy as np
with open({str(tmp_path / "model.pickle")!r}, "rb") as file:
    model = pickle.load(file)
x = np.random.default_rng(7).uniform(-1, 1, (1, 17, 23, 3)).astype(np.float32)
print(model(x).tobytes().hex())
"""
    assert fresh.run(script).strip() == logits(model, 7).hex()
