"""Every rung of the ladder in 8 bits against integers of 64 bits: the same bits, at the edges of its shapes."""
import itertools

import numpy as np
import pytest
from int8_calls import expected_pointwise
from kernel_calls import LANES
from numba import njit

from npefficient.errors import ArgumentError
from npefficient.kernels.lanes import kernel
from npefficient.kernels.layout import Layout
from npefficient.kernels.processor import vector_units
from npefficient.ladder import pointwise_int8
from npefficient.ladder.case import QuantizedCase
from npefficient.ladder.pointwise_int8 import RUNGS
from npefficient.ladder.registry import LADDERS
from npefficient.network.quantization import QuantizedLayer

CHANNELS = [1, 3, 8, LANES - 1, LANES, LANES + 1]
HAVING = [pytest.param(rung, id=rung.name) for rung in RUNGS if not rung.lacking]  # the others: see below
ENDS = {"expand": (True, True, False), "project": (False, False, False), "shortcut": (False, False, True),
        "classifier": (True, False, False)}


def case_of(size, k, m, end="expand", largest=False):
    """Values of every size, or the largest alone; factors that take some results below 0 and beyond 255."""
    rng = np.random.default_rng([*size, k, m])
    has_scale, relu6, has_residual = ENDS[end]
    weight = np.full((m, k, 1, 1), 127, np.int8) if largest else rng.integers(-127, 128, (m, k, 1, 1)).astype(np.int8)
    x = np.full((*size, k), 255, np.uint8) if largest else rng.integers(0, 256, (*size, k), np.uint8)
    factor = rng.uniform(0.02, 0.05, m).astype(np.float32) / np.float32(k) ** 0.5
    layer = QuantizedLayer(weight, factor, rng.uniform(0, 255, m).astype(np.float32))
    return QuantizedCase(x, layer, rng.uniform(0.5, 1.5, size[0]).astype(np.float32) if has_scale else None, relu6,
                         rng.uniform(-9, 9, (*size, m)).astype(np.float32) if has_residual else None)


def cases():
    wide = [*CHANNELS, 2 * LANES + LANES // 2, 3 * LANES, 4 * LANES + 1]  # of the output: panels, half vectors
    yield from (case_of((1, p), 8, 24) for p in (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 17))
    yield from (case_of((2, 3), k, m) for k, m in itertools.product(CHANNELS, wide))
    yield from (case_of((2, 3), 8, m, end) for m in (3, 24, 3 * LANES) for end in ENDS)
    yield from (case_of((1, 5), k, 24, largest=True) for k in (2, 8, 1280))


def oracle(case):
    """(H, W, M), float32."""
    h, w, k = case.x.shape
    weight = case.layer.weight.reshape(-1, k)
    start = (0 if case.scale is None else -128) * weight.sum(1, dtype=np.int64)
    scales, residuals = ([None] * h if array is None else array for array in (case.scale, case.residual))
    return np.array([expected_pointwise(row, weight, start, case.layer.scale, case.layer.bias, scale, case.relu6, more)
                     for row, scale, more in zip(case.x, scales, residuals, strict=True)])


def arrays_of(case):
    return [array for array in (case.x, *vars(case.layer).values(), case.scale, case.residual) if array is not None]


@pytest.mark.parametrize("rung", HAVING)
def test_rung(rung):
    for case in cases():
        given = [array.copy() for array in arrays_of(case)]
        ready = rung.prepare(case)
        for _ in range(2):
            ready.call()
            got, expected = ready.result(), oracle(case)
            assert got.dtype == (np.uint8 if case.relu6 else np.float32) and got.shape == case.out_shape
            assert np.array_equal(got, expected), (case.x.shape, case.out_shape)
        assert all(map(np.array_equal, given, arrays_of(case))), "a rung changed its input"


def test_the_cases_reach_both_ends_and_lie_between():
    results = np.concatenate([oracle(case).ravel() for case in cases() if case.relu6])
    assert {0, 255} < set(results) and len(set(results)) == 256


def test_a_prepared_rung_outlives_its_case():
    """The engine's kernel gets addresses only: the rung must keep the arrays alive."""
    ready = RUNGS[-1].prepare(case_of((20, 20), 64, 64))
    rubbish = [np.full((20, 20, 64), 77, np.uint8) for _ in range(50)]
    ready.call()
    assert len(rubbish) == 50 and np.array_equal(ready.result(), oracle(case_of((20, 20), 64, 64)))


def test_registry_names_each_rung_and_its_reason():
    names = [rung.name for rung in RUNGS]
    assert LADDERS["pointwise-int8"] is RUNGS and len(set(names)) == len(names)
    assert {rung.op for rung in RUNGS} == {"pointwise-int8"} and RUNGS[0].reason == "the formula as it stands"
    assert all(rung.reason.startswith("limited by ") for rung in RUNGS[1:])


def test_a_rung_that_the_processor_can_not_run_says_so(monkeypatch):
    """LLVM would end the process."""
    monkeypatch.setattr(pointwise_int8, "LACKING", "VNNI")
    (rung,) = (rung for rung in RUNGS if rung.name == "fours of 8 bits")
    with pytest.raises(ArgumentError, match="lacks VNNI: there is no instruction for four products of bytes"):
        rung.prepare(case_of((1, 1), 8, 8))


@pytest.mark.skipif("AVX2" not in [name for name, *_ in vector_units()], reason="an instruction of AVX2")
def test_two_products_of_bytes_exceed_16_bits():
    """Why no rung uses vpmaddubsw."""
    from llvmlite import ir

    def maddubsw(t, x, weight, out):
        pixels, weights = (t.integers(address).value for address in (x, weight))
        kind = [ir.VectorType(ir.IntType(bits), 256 // bits) for bits in (8, 16)]
        added = t._x86("avx2.pmadd.ub.sw", kind[1], *(t.builder.bitcast(one, kind[0]) for one in (pixels, weights)))
        t.builder.store(added, t._pointer(out, kind[1]), align=1)

    one = kernel(maddubsw, Layout(8, 16, item=1))
    call = njit(lambda x, weight, out: one(x, weight, out))
    x, weight, out = np.zeros(32, np.uint8), np.full(32, 127, np.int8), np.zeros(16, np.int16)
    for pixel, total in ((129, 2 * 129 * 127), (255, 32767)):
        x[:] = pixel
        call(x.ctypes.data, weight.ctypes.data, out.ctypes.data)
        assert (out == total).all()
    assert 2 * 255 * 127 > 32767


# --- cases -----------------------------------------------------------------------------------------------------------


def test_a_case_counts_what_it_takes():
    case = case_of((2, 3), 8, 24)
    assert case.flops == 2 * 6 * 8 * 24 and case.bytes == 6 * 8 + 8 * 24 + 2 * 4 * 24 + 4 * 2 + 6 * 24
    case = case_of((2, 3), 8, 24, "shortcut")
    assert case.bytes == 6 * 8 + 8 * 24 + 2 * 4 * 24 + 2 * 4 * 6 * 24


@pytest.mark.parametrize("end", ENDS)
def test_the_top_of_a_case_is_a_smaller_one(end):
    case = case_of((5, 3), 8, 24, end)
    assert case.top(2).out_shape == (2, 3, 24) and np.array_equal(oracle(case.top(2)), oracle(case)[:2])


X, LAYER = np.zeros((4, 4, 8), np.uint8), case_of((1, 1), 8, 24).layer


@pytest.mark.parametrize("arguments, message", [
    ((X.astype(np.int8), LAYER), "x is int8 of shape .4, 4, 8.: it must be uint8"),
    ((X[..., :7], LAYER), "x is uint8 of shape .4, 4, 7.: it must be uint8 of shape .4, 4, 8."),
    ((X[:0], LAYER), "of shape .0, 4, 8., and not empty"),
    ((X, QuantizedLayer(LAYER.weight, LAYER.scale[1:], LAYER.bias)), "the layer's scale is float32 of shape .23,."),
    ((X, LAYER, np.ones((4, 4), np.float32)), "scale is float32 of shape .4, 4.: it must be float32 of shape .4,."),
    ((X, LAYER, None, False, np.ones((4, 4, 8), np.float32)), "residual is float32 of shape .4, 4, 8."),
    ((X, LAYER, None, True, np.ones((4, 4, 24), np.float32)), "nothing is added to integers"),
], ids=["signed", "channels", "empty", "scales", "scale", "residual", "added"])
def test_a_case_says_what_is_wrong(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        QuantizedCase(*arguments)
