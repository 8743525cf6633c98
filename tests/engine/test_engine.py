"""The engine as a whole: equal to the plain network, and the same to the last bit however it is run."""
import threading

import numpy as np
import pytest
from engines import assert_same_bits, engine, network, pixels, run_plan, shape_id, weights
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planning import SHORT, free, freedom, make
from tolerance import LOGITS, assert_close

from npefficient.engine.engine import Engine

LARGEST = 300
AREA = {"lite0": 30_000, "lite1": 20_000, "lite2": 15_000, "lite3": 12_000, "lite4": 8_000}  # of a drawn picture


@pytest.mark.parametrize("variant", SHORT)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 33, 47), (1, 64, 96), (3, 1, 75), (1, 95, 2)], ids=shape_id)
def test_engine_equals_plain_network(variant, shape):
    x = pixels(*shape, 3)
    assert_close(engine(variant, 2)(x), network(variant)(x), LOGITS)


@pytest.mark.parametrize("num_classes, in_chans", [(1, 1), (10, 3), (17, 4), (8, 2)])
def test_engine_other_classes_and_channels(num_classes, in_chans):
    x = pixels(2, 40, 31, in_chans)
    assert_close(engine("lite0", 2, num_classes, in_chans)(x), network("lite0", num_classes, in_chans)(x), LOGITS)


# --- any plan --------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw):
    """(variant, batch, height, width, threads, fused, the planner's constants); up to LARGEST pixels a side."""
    variant = draw(st.sampled_from(SHORT))
    batch = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    height = draw(st.integers(1, LARGEST))
    width = draw(st.integers(1, max(1, min(LARGEST, AREA[variant] // batch // height))))
    if draw(st.booleans()):
        height, width = width, height
    return variant, batch, height, width, draw(st.sampled_from([1, 2, 3, 8])), draw(st.booleans()), draw(freedom)


def check_plan(variant, batch, height, width, threads, fused, choices, expected=network):
    """Fail unless the engine, held to this plan, agrees with the plain network within the tolerance."""
    x = pixels(batch, height, width, 3, seed=height * 1000 + width)
    e = engine(variant, threads)
    with free(choices):
        if fused:
            e._plans.clear()
            got = e(x)
            e._plans.clear()
        else:
            plan = make(e.architecture, e.packed, height, width, threads, fused=False)
            got = np.stack([run_plan(e, plan, threads, picture) for picture in x])
    assert_close(got, expected(variant)(x), LOGITS)


@settings(max_examples=60, deadline=None)
@given(cases())
@example(("lite0", 1, 1, 1, 2, True, {}))
@example(("lite4", 2, 1, 1, 3, False, {}))
@example(("lite1", 1, 1, 300, 2, True, {}))
@example(("lite2", 1, 300, 1, 8, True, {"SCRATCH": 1}))
@example(("lite0", 1, 225, 225, 2, True, {}))
@example(("lite0", 1, 300, 300, 3, True, {}))
@example(("lite4", 1, 300, 300, 2, True, {}))
@example(("lite3", 1, 75, 150, 2, True, {"SCRATCH": 1, "PIXELS_AT_ONCE": 1, "PIXELS_PER_PART": 1, "CHUNKS": 5}))
def test_engine_is_right_under_every_plan(case):
    """Whatever constants the planner uses, the logits are those of the plain network."""
    check_plan(*case)


def test_check_plan_can_fail():
    """The logits of another network, or of a plan with one weight's offset moved, are far outside the tolerance."""
    with pytest.raises(AssertionError, match="they differ by"):
        check_plan("lite0", 1, 20, 20, 1, True, {}, lambda variant: network("lite1"))
    e, x = engine("lite0", 1), pixels(1, 20, 20, 3)
    plan = make(e.architecture, e.packed, 20, 20)
    plan.steps["depthwise_bias"][2] += 64
    with pytest.raises(AssertionError, match="they differ by"):
        assert_close(run_plan(e, plan, 1, x[0])[None], network("lite0")(x), LOGITS)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SHORT), st.integers(1, LARGEST), st.integers(1, LARGEST),
       st.lists(st.tuples(st.sampled_from([1, 2, 3, 8]), st.booleans(), freedom), min_size=3, max_size=3))
@example("lite0", 225, 225, [(2, True, {}), (8, False, {"SCRATCH": 1}), (1, False, {})])
@example("lite4", 300, 300, [(2, True, {}), (3, False, {"CHUNKS": 5}), (1, True, {"SCRATCH": 1})])
@example("lite2", 1, 1, [(2, True, {}), (3, False, {}), (8, True, {})])
def test_all_plans_of_a_picture_give_the_same_bits(variant, height, width, plans):
    e, x = engine(variant, 1), pixels(height, width, 3, seed=7)
    expected = run_plan(e, make(e.architecture, e.packed, height, width), 1, x)
    assert np.isfinite(expected).all() and expected.std() > 0
    for threads, fused, choices in plans:
        with free(choices):
            plan = make(e.architecture, e.packed, height, width, threads, fused)
        assert_same_bits(run_plan(e, plan, threads, x), expected)


@pytest.mark.parametrize("variant", ["lite0", "lite4"])
def test_engine_bits_do_not_depend_on_threads_or_batch(variant):
    """A picture has the same bits computed alone, on a thread of its own, or by all threads together."""
    x = pixels(5, 65, 50, 3)
    expected = np.concatenate([engine(variant, 1)(x[i : i + 1]) for i in range(5)])
    assert len({row.tobytes() for row in expected}) == 5
    for threads in (1, 2, 3, 8):
        for batch in (1, 2, 3, 5):
            got = np.concatenate([engine(variant, threads)(x[i : i + batch]) for i in range(0, 5, batch)])
            assert_same_bits(got, expected)


# --- many calls ------------------------------------------------------------------------------------------------------


def test_engine_repeated_calls_give_the_same_bits():
    e, x = engine("lite0", 2), pixels(1, 64, 64, 3)
    expected = e(x)
    for _ in range(200):
        assert_same_bits(e(x), expected)


def wrong_answers(engines, inputs, expected, calls, callers=8):
    """Call the engines from several Python threads at once; returns (caller, turn, got) of what is not as expected."""
    wrong, start = [], threading.Barrier(callers)

    def call(number):
        start.wait(60)
        for turn in range(calls):
            e, i = (number + turn) % len(engines), (number * 3 + turn) % len(inputs)
            got = engines[e](inputs[i])
            if got.tobytes() != expected[e][i].tobytes():
                wrong.append((number, turn, got))

    running = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for caller in running:
        caller.start()
    for caller in running:
        caller.join(300)
    assert not any(caller.is_alive() for caller in running)
    return wrong


@pytest.mark.parametrize("variants", [["lite0"], ["lite0", "lite1", "lite0"]], ids=["one_model", "several"])
def test_engine_many_callers_at_once(variants):
    """Eight Python threads make a thousand calls each, on engines with workers; one wrong bit would show."""
    engines = [Engine(weights(variant, 10), threads) for variant, threads in zip(variants, (2, 3, 2))]
    inputs = [pixels(1 + i % 2, 3 + i % 3, 5 + i % 4, 3, seed=i) for i in range(8)]
    expected = [[Engine(weights(variant, 10), 1)(x) for x in inputs] for variant in variants]
    assert wrong_answers(engines, inputs, expected, 1000) == []


def test_wrong_answers_can_be_seen():
    """One bit of one answer among all the calls."""
    x = pixels(1, 3, 3, 3)
    expected = engine("lite0", 1)(x)
    calls = iter(range(10**6))

    def faulty(x):
        got = engine("lite0", 1)(x)
        got.view(np.int32)[0, 5] ^= next(calls) == 77
        return got

    (_, _, got), = wrong_answers([faulty], [x], [[expected]], 25)
    assert np.flatnonzero(got != expected).tolist() == [5]
