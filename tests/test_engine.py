"""The engine as a whole: equal to the plain network, and the same to the last bit however it is run."""
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerance import LOGITS, assert_close

from npefficient import architecture, reference
from npefficient.engine import engine as engine_module
from npefficient.engine.engine import PLANS_KEPT, Engine, _Buffers, _walk
from npefficient.engine.compiled import driver
from npefficient.parameters import random_weights

VARIANTS = [f"lite{i}" for i in range(5)]


@pytest.fixture(scope="module")
def weights():
    made = {}

    def get(variant="lite0", num_classes=1000, in_chans=3):
        key = variant, num_classes, in_chans
        if key not in made:
            made[key] = random_weights(architecture.build(*key))
        return made[key]

    return get


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def shape_id(shape):
    return "x".join(map(str, shape))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 33, 47), (1, 64, 96), (3, 1, 75), (1, 95, 2)], ids=shape_id)
def test_engine_equals_plain_network(weights, variant, shape):
    w, x = weights(variant), pixels(*shape, 3)
    expected = reference.Network(w.architecture, w.parameters)(x)
    assert_close(Engine(w, 2)(x), expected, LOGITS)


@pytest.mark.parametrize("num_classes, in_chans", [(1, 1), (10, 3), (17, 4), (8, 2)])
def test_engine_other_classes_and_channels(weights, num_classes, in_chans):
    w, x = weights("lite0", num_classes, in_chans), pixels(2, 40, 31, in_chans)
    assert_close(Engine(w, 2)(x), reference.Network(w.architecture, w.parameters)(x), LOGITS)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 130), st.integers(1, 130), st.integers(1, 5))
def test_engine_any_size_batch_and_threads(batch, height, width, threads):
    w, x = random_weights(architecture.build("lite0", 10)), pixels(batch, height, width, 3)
    assert_close(Engine(w, threads)(x), reference.Network(w.architecture, w.parameters)(x), LOGITS)


@pytest.mark.parametrize("variant", ["lite0", "lite4"])
def test_engine_bits_do_not_depend_on_threads_or_batch(weights, variant):
    w, x = weights(variant), pixels(5, 65, 50, 3)
    single = Engine(w, 1)
    expected = np.concatenate([single(x[i : i + 1]) for i in range(5)])
    for threads in (1, 2, 3, 8):
        engine = Engine(w, threads)
        for batch in (1, 2, 5):
            got = np.concatenate([engine(x[i : i + batch]) for i in range(0, 5, batch)])
            np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


def test_engine_repeated_calls_give_the_same_bits(weights):
    engine, x = Engine(weights(), 2), pixels(1, 64, 64, 3)
    expected = engine(x)
    for _ in range(200):
        np.testing.assert_array_equal(engine(x), expected)


def test_engine_many_callers_at_once(weights):
    """Eight Python threads on two engines that have helpers of their own."""
    engines = [Engine(weights(variant), 3) for variant in ("lite0", "lite1")]
    inputs = [pixels(1, 40, 40, 3, seed=i) for i in range(8)]
    expected = [[engine(x) for x in inputs] for engine in engines]
    wrong = []

    def call(number):
        for turn in range(60):
            e, i = (number + turn) % 2, (number * 3 + turn) % 8
            if not np.array_equal(engines[e](inputs[i]), expected[e][i]):
                wrong.append((number, turn))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
    assert not any(caller.is_alive() for caller in callers)
    assert wrong == []


def test_engine_late_helper_touches_nothing(weights):
    """A helper that comes when its run is over leaves without a write, even while the next run is under way."""
    engine, x = Engine(weights(), 1), pixels(1, 40, 40, 3)
    plan = engine.plan(1, 40, 40)
    buffers = _Buffers(plan)
    engine._run(plan, buffers, x)
    engine._run(plan, buffers, x)
    before = buffers.arena.tobytes(), buffers.counters.tobytes()
    _walk(driver(), plan, buffers, buffers.epoch - 1, engine.packed, x * 0)
    assert (buffers.arena.tobytes(), buffers.counters.tobytes()) == before


def test_engine_reads_only_what_it_wrote(weights):
    """An arena full of NaN gives the same logits: no step reads a value that no step has written."""
    engine, x = Engine(weights("lite1"), 2), pixels(2, 45, 33, 3)
    plan = engine.plan(2, 45, 33)
    buffers = _Buffers(plan)
    buffers.arena.view(np.float32)[:] = np.nan
    engine._run(plan, buffers, x)
    logits = buffers.arena[plan.logits :].view(np.float32)[: 2 * plan.logits_width].reshape(2, -1)[:, :1000]
    np.testing.assert_array_equal(logits, engine(x))


def test_engine_writes_only_into_its_arena(weights, monkeypatch):
    """Guard bytes around the arena, the counters and the packed weights stay as they are."""
    made, guard = [], 4096

    def guarded(size):
        block = np.full(size + 2 * guard + 64, 0xA5, np.uint8)
        start = -(block.ctypes.data + guard) % 64 + guard
        block[start : start + size] = 0
        made.append((block, start, size))
        return block[start : start + size]

    monkeypatch.setattr(engine_module, "aligned", guarded)
    engine = Engine(weights(), 2)
    packed = engine.packed.buffer.copy()
    for shape in [(1, 1, 1), (2, 37, 51), (1, 64, 64)]:
        engine(pixels(*shape, 3))
    assert len(made) == 6
    for block, start, size in made:
        assert (block[:start] == 0xA5).all() and (block[start + size :] == 0xA5).all()
    np.testing.assert_array_equal(engine.packed.buffer, packed)


def test_engine_runs_on_the_buffers_of_the_first_call(weights):
    engine, x = Engine(weights(), 2), pixels(1, 48, 48, 3)
    first = engine(x)
    kept = engine._prepared[1, 48, 48].free[0]
    second = engine(x)
    assert [kept] == engine._prepared[1, 48, 48].free
    assert not np.shares_memory(first, second) and not np.shares_memory(second, kept.arena)


def test_engine_forgets_old_shapes(weights):
    engine = Engine(weights("lite0", 10), 1)
    for size in range(1, PLANS_KEPT + 4):
        engine(pixels(1, size, 1, 3))
    assert list(engine._prepared) == [(1, size, 1) for size in range(4, PLANS_KEPT + 4)]
