"""NumPy's own product of matrices: that it is checked, and computed on one thread."""
import numpy as np
import pytest

from npefficient.bench import blas
from npefficient.errors import NpefficientError
from npefficient.ladder.case import Case, Folded


def test_compare_times_the_product_and_the_layer():
    weight = np.ones((24, 8, 1, 1), np.float32)
    case = Case("pointwise", np.ones((2, 3, 8), np.float32), (Folded(weight, weight[:, 0, 0, 0]),))
    found = blas.compare(case, 0.001)
    assert found["library"] == blas.library() and found["product"] > 0 and found["layer"] > 0


def test_its_process_has_one_thread_for_every_library(monkeypatch):
    asked = []
    monkeypatch.setattr(blas, "isolated", lambda module, function, environment, **kwargs: asked.append(
        (module, function, environment, kwargs)))
    weight = np.ones((24, 8, 1, 1), np.float32)
    folded = Folded(weight, weight[:, 0, 0, 0], relu6=False)
    blas.compare(Case("pointwise", np.ones((2, 3, 8), np.float32), (folded,)), 0.5)
    ((module, function, environment, kwargs),) = asked
    assert getattr(blas, function) is blas.timed and module == blas.__name__ and set(environment.values()) == {"1"}
    assert "OPENBLAS_NUM_THREADS" in environment
    assert kwargs == {"pixels": 6, "k": 8, "m": 24, "relu6": False, "seconds": 0.5}


@pytest.mark.parametrize("relu6", [True, False])
def test_a_wrong_product_is_refused(monkeypatch, relu6):
    assert blas.timed(6, 8, 24, relu6, 0.001)["layer"] > 0
    right = np.add
    monkeypatch.setattr(np, "add", lambda a, b, out: right(a, b, out=out).__iadd__(np.float32(0.01)))
    with pytest.raises(NpefficientError, match="a 1x1 convolution in NumPy: WRONG RESULT"):
        blas.timed(6, 8, 24, relu6, 0.001)


@pytest.mark.parametrize("told, expected", [
    (TypeError(), "BLAS"), ({}, "BLAS"),
    ({"Build Dependencies": {"blas": {"name": "accelerate", "version": "1"}}}, "accelerate 1")])
def test_the_library_is_named_as_far_as_numpy_tells(monkeypatch, told, expected):
    def show(mode):
        if isinstance(told, Exception):
            raise told
        return told

    monkeypatch.setattr(np, "show_config", show)
    assert blas.library() == expected
