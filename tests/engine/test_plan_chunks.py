"""Chunks: each output is written once, from the inputs that belong to it, however a step is cut.

The routines between a chunk and the kernels run as plain Python, on stand-ins for the kernels (`stand_ins.py`). The
most delicate part is scratch memory: which row of its input a depthwise convolution meets there, after rows have been
filled in and moved.
"""
import numpy as np
import pytest
from golden_weights import packed
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layouts import LARGEST
from planning import SHORT, freedom, name_of, plan_of, step_named, threads
from stand_ins import check_chunks

from npefficient.engine import plan as plan_module
from npefficient.network.architecture import build

OWN = {}  # the planner's own constants


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SHORT), st.integers(1, 300), st.integers(1, 300), threads, st.booleans(), freedom)
@example("lite0", 1, 1, 1, True, OWN)
@example("lite0", 1, 1, 8, False, OWN)
@example("lite2", 1, 300, 2, True, OWN)
@example("lite1", 300, 1, 3, True, OWN)
@example("lite0", 224, 224, 2, True, OWN)
@example("lite0", 225, 225, 1, False, OWN)
@example("lite4", 300, 300, 2, True, OWN)
@example("lite2", 75, 61, 8, True, {"SCRATCH": 1, "PIXELS_AT_ONCE": 1, "PIXELS_PER_PART": 1, "CHUNKS": 5})
def test_chunks_cover_every_output_once(short, height, width, threads, fused, choices):
    """Any plan: outputs are written once, and scratch memory holds the rows that a depthwise convolution needs."""
    check_chunks(plan_of(short, height, width, threads, fused, choices=choices), packed(short))


@pytest.mark.parametrize("classes, colours", [(1, 1), (10, 3), (17, 4), (8, 2)])
def test_chunks_with_other_classes_and_colours(classes, colours):
    check_chunks(plan_of("lite0", 40, 31, 2, True, classes, colours), packed("lite0", classes, colours))


@pytest.mark.parametrize("step, field, change, message", [
    ("blocks.1.0.conv_pwl", "chunks", -1, "blocks.1.0.conv_pwl: an output is written 0 times"),
    ("blocks.1.0.conv_dw", "chunks", -1, "blocks.1.0.conv_dw: an output is written 0 times"),
    ("blocks.1.0.conv_pwl", "parts", 1, "blocks.1.0.conv_pwl: an output is written 0 times"),
    ("blocks.4.0.conv_pwl", "panels_per_chunk", -1, "blocks.4.0.conv_pwl: an output is written 0 times"),
    ("conv_head", "wide_panels", -1, "conv_head: .* are no panel"),
    ("conv_head", "panels", -1, "conv_head: an output is written 0 times"),
    ("blocks.1.0.conv_pwl", "pixels", -1, "blocks.1.0.conv_pwl: an output is written 0 times"),
    ("blocks.1.0.conv_pwl", "pixels", 1, "blocks.1.0.conv_pwl: reads pixels that are not there"),
    ("blocks.1.0.conv_pwl", "in_channels", 8, "blocks.1.0.conv_pwl: "),
    ("blocks.1.0.conv_pwl", "bias", 4, "blocks.1.0.conv_pwl: a bias of other channels"),
    ("blocks.1.0.conv_dw", "parts", 1, "blocks.1.0.conv_dw: "),
    ("blocks.1.0.conv_dw", "depthwise_bias", 4, "blocks.1.0.conv_dw: a bias of other channels"),
    ("blocks.1.0.conv_dw", "depthwise_weight", 4, "blocks.1.0.conv_dw: weights of no channel"),
    ("blocks.1.0.conv_dw", "rows_at_once", 1, "blocks.1.0.conv_dw: (.* meets something else|leaves scratch memory)"),
    ("blocks.1.0.conv_dw", "scratch_plane", -512, "blocks.1.0.conv_dw: .* meets something else in scratch memory"),
    ("blocks.1.0.conv_dw", "scratch_plane", 1 << 20, "blocks.1.0.conv_dw: leaves scratch memory"),
    ("blocks.1.0.conv_dw", "scratch_row", -64, "blocks.1.0.conv_dw: (leaves|.* something else in) scratch memory"),
    ("blocks.1.0.conv_dw", "top", 1, "blocks.1.0.conv_dw: .* meets something else in scratch memory"),
    ("blocks.1.0.conv_dw", "left", 1, "blocks.1.0.conv_dw: (leaves|.* something else in) scratch memory"),
    ("blocks.1.0.conv_dw", "height", -1, "blocks.1.0.conv_dw: .* meets something else in scratch memory"),
    ("blocks.1.0.conv_dw", "width", -1, "blocks.1.0.conv_dw: not a row"),
    ("blocks.1.0.conv_dw", "stride", -1, "blocks.1.0.conv_dw: another layer's way"),
    ("blocks.1.0.conv_dw", "source", 1, "blocks.1.0.conv_dw: copies what it should compute"),
    ("blocks.0.0.conv_dw", "picture_left", 1, "blocks.0.0.conv_dw: another picture"),
    ("blocks.0.0.conv_dw", "columns", -1, "blocks.0.0.conv_dw: another picture"),
    ("global_pool", "chunks", -1, "global_pool: an output is written 0 times"),
])
def test_check_chunks_can_fail(step, field, change, message):
    plan = plan_of("lite0", 200, 224, 2)
    step_named(plan, step)[field] += change
    with pytest.raises(AssertionError, match=message):
        check_chunks(plan, packed("lite0"))


def forget(call):
    return lambda *arguments, **named: None


def twice(call):
    return lambda *arguments, **named: (call(*arguments, **named), call(*arguments, **named))


@pytest.mark.parametrize("kernel, mistake, message", [
    ("copy", forget, "blocks.0.0.conv_dw: row .* meets something else in scratch memory"),  # between two stripes
    ("zero", forget, "blocks.0.0.conv_dw: row .* meets something else in scratch memory"),
    ("zero_columns", forget, "blocks.0.0.conv_dw: row .* meets something else in scratch memory"),
    ("stem_row", forget, "blocks.0.0.conv_dw: row .* meets something else in scratch memory"),
    ("pointwise", forget, "blocks.0.0.conv_pw: an output is written 0 times"),
    ("pointwise", twice, "blocks.0.0.conv_pw: an output is written 2 times"),
    ("depthwise", forget, "blocks.0.0.conv_dw: an output is written 0 times"),
    ("depthwise", twice, "blocks.0.0.conv_dw: an output is written 2 times"),
    ("pool", forget, "global_pool: an output is written 0 times"),
])
def test_check_chunks_sees_what_a_kernel_does_not_do(kernel, mistake, message):
    plan = plan_of("lite0", 200, 224, choices={"SCRATCH": 40_000})
    with pytest.raises(AssertionError, match=message):
        check_chunks(plan, packed("lite0"), **{kernel: mistake})


# --- how many --------------------------------------------------------------------------------------------------------


def check_sharing(plan, threads, chunks_each=2):
    """Fail unless every step has chunks enough for the threads and as many for each, or is cut as far as it goes."""
    for i, (step, layers) in enumerate(zip(plan.steps, plan.layers)):
        last = layers[-1]
        most = 1 if last.op == "pool" else max(1, last.out_height // 4) if last.op in ("stem", "depthwise") else \
            max(1, last.out_height * last.out_width // LARGEST)
        fair = step["chunks"] >= chunks_each * threads and step["chunks"] % threads == 0
        assert fair or step["parts"] >= most, f"{name_of(plan, i)}: {step['chunks']} chunks for {threads} threads"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SHORT), st.integers(1, 300), st.integers(1, 300), threads, st.booleans())
def test_chunks_are_shared_evenly(short, height, width, threads, fused):
    plan = plan_of(short, height, width, threads, fused)
    if threads > 1:
        check_sharing(plan, threads)
    for step in plan.steps:
        assert 1 <= step["parts"] <= step["chunks"] and step["panels_per_chunk"] >= 1
        assert step["chunks"] < 1 << 24, "a counter has no room for more"


@pytest.mark.parametrize("short", SHORT)
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_chunks_give_every_thread_work(short, threads):
    """At native size every step but the pool has two chunks or more for each thread."""
    size = build(short).variant.preprocessing.input_size[0]
    plan = plan_of(short, size, size, threads)
    few = [name_of(plan, i) for i, step in enumerate(plan.steps) if step["chunks"] < 2 * threads]
    assert few == ["global_pool"]
    if threads == 2:  # the classifier's one pixel can't be cut
        odd = [name_of(plan, i) for i, step in enumerate(plan.steps) if step["chunks"] % 2]
        assert set(odd) <= {"global_pool", "classifier"}


def test_one_thread_is_not_given_more_chunks_than_the_cache_asks_for():
    """A thread by itself walks a whole panel in one chunk, and a pointwise step in as many as keep its input near."""
    plan = plan_of("lite0", 224, 224)
    for step in plan.steps[plan.steps["op"] == plan_module.DEPTHWISE]:
        assert step["parts"] == 1
    wide = step_named(plan, "blocks.1.0.conv_pwl")
    assert wide["parts"] == np.ceil(56 * 56 * 96 * 4 / plan_module.PIXELS_AT_ONCE)


@pytest.mark.parametrize("step, field, value", [
    ("blocks.1.0.conv_dw", "chunks", 3), ("blocks.1.0.conv_pwl", "chunks", 2), ("classifier", "chunks", 1)])
def test_check_sharing_can_fail(step, field, value):
    plan = plan_of("lite0", 224, 224, 2)
    step_named(plan, step)[field], step_named(plan, step)["parts"] = value, 0
    with pytest.raises(AssertionError, match=f"{step}: {value} chunks for 2 threads"):
        check_sharing(plan, 2)
