"""A 1x1 convolution as NumPy computes it: `x @ weight` by its BLAS library, on one thread, to compare a ladder with.

A BLAS library reads how many threads to start when it is loaded, so it is timed in a process of its own, with
THREADS in its environment.
"""
import numpy as np

from ..ladder.case import Case
from .measure import measure
from .process import isolated
from .verify import verify

THREADS = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "OMP_NUM_THREADS",
                                  "VECLIB_MAXIMUM_THREADS")}
WAYS = {"product": "x @ weight alone", "layer": "with bias and ReLU6"}


def compare(case: Case, seconds: float) -> dict:
    """{"library": its name, "product": seconds for `x @ weight` alone, "layer": with the bias, and ReLU6 if the case
    has one}, for a pointwise case; medians. A residual is left out."""
    (conv,), (h, w, k) = case.convs, case.x.shape
    return isolated(__name__, "timed", THREADS, pixels=h * w, k=k, m=len(conv.bias), relu6=conv.relu6, seconds=seconds)


def timed(pixels: int, k: int, m: int, relu6: bool, seconds: float) -> dict:
    """What `compare` returns, measured in this process with seeded random values."""
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((pixels, k), (k, m), (m,)))
    out = np.empty((pixels, m), np.float32)

    def product():
        np.matmul(x, weight, out=out)

    def layer():
        np.matmul(x, weight, out=out)
        np.add(out, bias, out=out)
        if relu6:
            np.clip(out, 0, 6, out=out)

    product()
    expected = x.astype(np.float64) @ weight
    verify("x @ weight in NumPy", out, expected, k)
    layer()
    expected = expected + bias
    verify("a 1x1 convolution in NumPy", out, np.clip(expected, 0, 6) if relu6 else expected, k)
    return {"library": library(), "product": measure(product, seconds).median, "layer": measure(layer, seconds).median}


def library() -> str:
    """The name and version of NumPy's BLAS library, as far as NumPy tells (since 1.25)."""
    try:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    except (TypeError, KeyError):
        return "BLAS"
    return f"{blas['name']} {blas.get('version', '')}".strip()
