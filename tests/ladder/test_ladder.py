"""Every rung of every ladder in float32 against loops in float64 at the edges of its shapes.

The tests take the rungs from the registry, so that every rung in it is verified; `check`, which verifies them, is shown
to refuse wrong results.
"""
import itertools
import subprocess
import sys

import naive
import numpy as np
import pytest
from kernel_calls import LANES, assert_bits, exact_depthwise, exact_pointwise
from tolerance import assert_close

from npefficient.errors import ArgumentError
from npefficient.ladder import block
from npefficient.ladder.case import Case, Folded, Prepared, Rung
from npefficient.ladder.registry import LADDERS

FLOATS = {op: rungs for op, rungs in LADDERS.items() if op != "pointwise-int8"}  # which has a file of its own
RUNGS = [rung for rungs in FLOATS.values() for rung in rungs]
CHANNELS = [1, 3, 8, LANES - 1, LANES, LANES + 1]
SIZES = [(1, 1), (1, 2), (2, 1), (3, 4), (4, 3), (5, 5), (1, 9), (6, 11)]


def noise(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape).astype(np.float32)


def conv(m, c, k=1, stride=1, relu6=True, seed=0):
    """Weights that keep activations at their size, and a bias that takes some of them beyond 6."""
    weight = 3 * noise(m, c, k, k, seed=seed) / np.float32(c * k * k) ** 0.5
    return Folded(weight, 3 + 3 * noise(m, seed=seed), stride, relu6)


# --- cases -----------------------------------------------------------------------------------------------------------


def pointwise_case(size, k, m, relu6=True, residual=False):
    return Case("pointwise", noise(*size, k), (conv(m, k, relu6=relu6),), noise(*size, m, seed=1) if residual else None)


def depthwise_case(size, c, k, s):
    return Case("depthwise", noise(*size, c), (conv(c, 1, k, s),))


def block_case(size, c, e, m, k, s, skip=False):
    x = noise(*size, c)
    convs = conv(e, c, seed=1), conv(e, 1, k, s, seed=2), conv(m, e, relu6=False, seed=3)
    return Case("block", x, convs, x if skip else None)


def pointwise_cases():
    wide = [*CHANNELS, 2 * LANES + LANES // 2, 3 * LANES, 4 * LANES + 1]  # of the output: panels, half vectors
    yield from (pointwise_case((1, p), 8, 24) for p in (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 17))
    yield from (pointwise_case((2, 3), k, m) for k, m in itertools.product(CHANNELS, wide))
    yield from (pointwise_case((2, 3), 8, m, *how) for m in (3, 24)
                for how in ((False, False), (False, True), (True, True)))


def depthwise_cases():
    yield from (depthwise_case(size, 8, k, s) for size in SIZES for k in (3, 5) for s in (1, 2))
    yield from (depthwise_case((3, 6), c, k, s) for c in [*CHANNELS, 3 * LANES] for k in (3, 5) for s in (1, 2))


def block_cases():
    yield from (block_case(size, 8, 48, 16, k, s) for size in SIZES for k in (3, 5) for s in (1, 2))
    odd = [(1, 1, 1), (3, 18, 5), (LANES + 1, 3 * LANES + 1, 24)]
    yield from (block_case((3, 6), *channels, 3, 1) for channels in odd)
    yield from (block_case((4, 5), c, 6 * c, c, 5, 1, skip=True) for c in (3, 8, 24))


CASES = {"pointwise": list(pointwise_cases()), "depthwise": list(depthwise_cases()), "block": list(block_cases())}


# --- verifying -------------------------------------------------------------------------------------------------------


def oracle(case):
    """(Q, R, M) in float64."""
    x = case.x
    for one in case.convs:
        pointwise = one.weight.shape[-1] == 1
        x = naive.pointwise(x, one.weight) if pointwise else naive.depthwise(x, one.weight, one.stride)
        x = naive.clip6(x + one.bias) if one.relu6 else x + one.bias
    return x if case.residual is None else x + case.residual


def check(rung, case, expected):
    """Fail unless a rung gives what is expected, twice, and leaves what it was given as it was."""
    given = [array.copy() for array in (case.x, *(one.weight for one in case.convs), *(one.bias for one in case.convs))]
    ready = rung.prepare(case)
    for _ in range(2):
        ready.call()
        got = ready.result()
        assert_close(got, expected.astype(np.float32), sum(one.weight[0].size + 2 for one in case.convs))
    now = case.x, *(one.weight for one in case.convs), *(one.bias for one in case.convs)
    assert all(np.array_equal(a, b) for a, b in zip(given, now, strict=True)), "a rung changed its input"


@pytest.fixture(scope="module")
def expectations():
    return {op: [oracle(case) for case in cases] for op, cases in CASES.items()}


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: f"{rung.op}, {rung.name}")
def test_rung(rung, expectations):
    for case, expected in zip(CASES[rung.op], expectations[rung.op], strict=True):
        check(rung, case, expected)


def wrong(change):
    """Compiled loops whose result is then changed."""
    right = LADDERS["pointwise"][1]

    def prepare(case):
        ready = right.prepare(case)
        return Prepared(ready.function, ready.arguments, lambda: change(ready.result()))

    return Rung("pointwise", "wrong", "to be found", prepare)


def spoil_last(value):
    def change(result):
        result[-1, -1, -1] += np.float32(value)
        return result

    return change


@pytest.mark.parametrize("change, message", [
    (spoil_last(1e-3), "they differ by 0.001"), (spoil_last(np.nan), "got has nan"),
    (lambda result: result[:, :-1], "got shape"), (lambda result: result.astype(np.float64), "got dtype float64"),
    (lambda result: result.transpose(1, 0, 2), "got shape")], ids=["off", "nan", "short", "double", "turned"])
def test_check_finds_a_wrong_rung(change, message):
    case = pointwise_case((2, 3), 8, 24)
    check(wrong(lambda result: result), case, oracle(case))
    with pytest.raises(AssertionError, match=message):
        check(wrong(change), case, oracle(case))


def test_check_finds_a_rung_that_adds_to_what_was_there():
    total = np.zeros((2, 3, 24), np.float32)
    right = LADDERS["pointwise"][1]

    def prepare(case):
        ready = right.prepare(case)

        def call():
            ready.call()
            total[:] += ready.result()

        return Prepared(call, (), total.copy)

    case = pointwise_case((2, 3), 8, 24)
    with pytest.raises(AssertionError, match="they differ"):
        check(Rung("pointwise", "adding", "to be found", prepare), case, oracle(case))


def test_check_finds_a_rung_that_writes_to_its_input():
    def prepare(case):
        def call():
            case.x[0, 0, 0] += 1

        return Prepared(call, (), lambda: oracle(pointwise_case((2, 3), 8, 24)).astype(np.float32))

    case = pointwise_case((2, 3), 8, 24)
    with pytest.raises(AssertionError, match="a rung changed its input"):
        check(Rung("pointwise", "writing", "to be found", prepare), case, oracle(case))


# --- the registry ----------------------------------------------------------------------------------------------------


def test_registry_names_each_rung_and_its_reason():
    assert set(FLOATS) == set(CASES)
    for op, rungs in FLOATS.items():
        names = [rung.name for rung in rungs]
        assert len(set(names)) == len(names) > 2 and {rung.op for rung in rungs} == {op}
        assert names[0] == "plain loops" and not rungs[0].reason.startswith("limited by ")
        assert all(rung.reason.startswith("limited by ") for rung in rungs[1:])


def test_ladders_share_their_names():
    depthwise, pointwise, whole = ([rung.name for rung in LADDERS[op]] for op in ("depthwise", "pointwise", "block"))
    assert depthwise == whole[:-1] == [name for name in pointwise if name in depthwise]


@pytest.mark.parametrize("op", FLOATS)
def test_the_top_rung_has_the_engine_s_bits(op):
    """One chain of FMAs per output, in order, from the bias: what `test_kernels` asks of the engine's kernels."""
    for case in CASES[op][::5]:
        ready = LADDERS[op][-1].prepare(case)
        ready.call()
        x = case.x
        for one in case.convs:
            if one.weight.shape[-1] > 1:
                x = exact_depthwise(x, one.weight, one.bias, one.stride)
            else:
                pixels = exact_pointwise(x.reshape(-1, x.shape[2]), one.weight[:, :, 0, 0], one.bias, one.relu6)
                x = pixels.reshape(*x.shape[:2], -1)
        assert_bits(ready.result(), x if case.residual is None else x + case.residual)


@pytest.mark.parametrize("scratch", [1, 3 * 4 * LANES * 10 * 6], ids=["a_row_at_a_time", "some_rows"])
def test_fused_whatever_fits_its_scratch_memory(monkeypatch, scratch):
    monkeypatch.setattr(block, "SCRATCH", scratch)
    for size, k, s in itertools.product([(1, 1), (7, 3), (8, 6), (13, 5)], (3, 5), (1, 2)):
        case = block_case(size, 8, 4 * LANES + 8, 8, k, s)
        check(LADDERS["block"][-1], case, oracle(case))


def test_a_prepared_rung_outlives_its_case():
    """The engine's kernels get addresses only: the rung must keep the arrays alive."""
    call = LADDERS["pointwise"][-1].prepare(pointwise_case((20, 20), 64, 64)).call
    expected = LADDERS["pointwise"][-1].prepare(pointwise_case((20, 20), 64, 64))
    expected.call()
    rubbish = [np.full((20, 20, 64), np.nan, np.float32) for _ in range(50)]
    call()
    assert len(rubbish) == 50 and np.array_equal(call.__self__.result(), expected.result())


# --- cases -----------------------------------------------------------------------------------------------------------


def test_a_case_counts_what_it_takes():
    case = pointwise_case((2, 3), 8, 24, residual=True)
    assert case.flops == 2 * 6 * 8 * 24 and case.bytes == 4 * (6 * 8 + 8 * 24 + 24 + 2 * 6 * 24)
    case = depthwise_case((5, 4), 3, 5, 2)
    assert case.out_shape == (3, 2, 3) and case.flops == 2 * 6 * 3 * 25 and case.bytes == 4 * (60 + 75 + 3 + 18)
    case = block_case((4, 5), 8, 48, 8, 3, 1, skip=True)
    assert case.flops == 2 * 20 * 48 * (8 + 9 + 8) and case.bytes == 4 * (2 * 160 + 48 * (8 + 9 + 8) + 48 + 48 + 8)


def test_the_top_of_a_case_is_a_smaller_one():
    case = pointwise_case((5, 3), 8, 24, residual=True)
    assert case.top(2).out_shape == (2, 3, 24) and np.array_equal(case.top(2).residual, case.residual[:2])
    case = block_case((5, 3), 8, 48, 8, 3, 1, skip=True).top(4)
    assert case.residual is case.x and case.x.shape == (4, 3, 8)
    assert depthwise_case((5, 3), 8, 3, 2).top(3).out_shape == (2, 2, 8)


X = noise(4, 4, 8)


@pytest.mark.parametrize("arguments, message", [
    (("pool", X, ()), "op 'pool' with 0 convolutions"),
    (("block", X, (conv(8, 8),)), "op 'block' with 1 convolutions"),
    (("pointwise", X.astype(np.float64), (conv(8, 8),)), "float64 of shape \\(4, 4, 8\\)"),
    (("pointwise", X[:0], (conv(8, 8),)), "float32 of shape \\(0, 4, 8\\)"),
    (("pointwise", X[None], (conv(8, 8),)), "shapes \\[\\(1, 4, 4, 8\\)"),
    (("pointwise", X, (conv(8, 7),)), "\\(8, 7, 1, 1\\)"),
    (("pointwise", X, (conv(8, 8, stride=2),)), "do not fit"),
    (("depthwise", X, (conv(8, 1, 4),)), "\\(8, 1, 4, 4\\)"),
    (("depthwise", X, (conv(8, 1, 3, 3),)), "do not fit"),
    (("depthwise", X, (conv(8, 1, 3, relu6=False),)), "do not fit"),
    (("depthwise", X, (conv(8, 1, 3),), X), "residual of shape \\(4, 4, 8\\) for a depthwise"),
    (("pointwise", X, (conv(9, 8),), X), "the result's shape \\(4, 4, 9\\)"),
], ids=["op", "count", "dtype", "empty", "batch", "channels", "stride", "kernel", "step_3", "linear", "added", "shape"])
def test_a_case_says_what_is_wrong(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Case(*arguments)


# --- apart from the engine -------------------------------------------------------------------------------------------


def test_the_engine_does_not_load_the_ladder():
    script = "import sys, npefficient.engine.run; print(*(name for name in sys.modules if 'ladder' in name))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stderr


def test_the_engine_s_code_does_not_depend_on_the_ladder(monkeypatch, tmp_path):
    """An edited rung must not cause the engine to be compiled again."""
    from npefficient.engine import compiled
    from npefficient.kernels.layout import FLOAT32

    read = []
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: read.append(path) or b"")
    compiled._key(FLOAT32)
    assert {"pointwise.py", "run.py"} <= {path.name for path in read}
    assert "ladder" not in {path.parent.name for path in read}
