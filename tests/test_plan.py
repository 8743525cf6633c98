"""The plan: what each step reads is what the right step has written, and chunks cover every output once.

The lifetime of a buffer is not taken from the planner: a shadow of the arena notes which step wrote each cache line
last, and the way of a picture through the network says what each step ought to find.
"""
import types

import naive
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from golden_weights import packed, weights

from npefficient.architecture import build
from npefficient.engine import plan as plan_module
from npefficient.engine import run as run_module
from npefficient.engine.engine import Engine
from npefficient.engine.plan import ALIGNMENT, STEP, make_plan

SHORT = [f"lite{i}" for i in range(5)]
LINE = 64  # bytes


def plan_of(short, batch, height, width, classes=1000, colours=3):
    return make_plan(build(short, classes, colours), packed(short, classes, colours), batch, height, width)


shapes = st.tuples(st.sampled_from(SHORT), st.integers(1, 4), st.integers(1, 300), st.integers(1, 300))


def any_shape(examples):
    """Hypothesis over variants, batches and sizes; the corners always."""

    def decorate(test):
        test = example(("lite0", 1, 1, 1))(example(("lite4", 4, 300, 300))(example(("lite2", 3, 1, 300))(test)))
        return settings(max_examples=examples, deadline=None)(given(shapes)(test))

    return decorate


# --- buffers ---------------------------------------------------------------------------------------------------------


def dataflow(short):
    """For each step: (name, the step whose output it reads or None for the picture, the step it adds or None)."""
    steps, entrance, block = [], None, ""
    for i, (name_of_block, _, name, *_, step, ins, outs, clipped) in enumerate(naive.layers(short)):
        if name_of_block != block:
            block, entrance, before, strides = name_of_block, i - 1, ins, 1
        strides = strides * step if block else 0
        adds = not clipped and strides == 1 and before == outs
        steps.append((name, i - 1 if i else None, entrance if adds else None))
    steps.append(("global_pool", len(steps) - 1, None))
    return [*steps, ("classifier", len(steps) - 1, None)]


def size_in_bytes(plan, step):
    return plan.batch * int(step["out_height"]) * int(step["out_width"]) * int(step["out_channels"]) * 4


def lines(offset, size):
    return slice(offset // LINE, -(-(offset + size) // LINE))


def check_buffers(plan, flow):
    """Fail unless every step finds whole what it reads, and writes over nothing that it or a later one reads."""
    assert len(plan.steps) == len(flow)
    owner = np.full(-(-plan.arena_size // LINE), -1, np.int16)
    for i, (step, (name, source, added)) in enumerate(zip(plan.steps, flow)):
        assert plan.names[i] == name
        assert step["out"] % ALIGNMENT == 0 and step["out"] >= 0, f"{name}: out at {step['out']}"
        assert step["out"] + size_in_bytes(plan, step) <= plan.arena_size, f"{name}: out leaves the arena"
        owner[lines(step["out"], size_in_bytes(plan, step))] = i
        assert step["has_residual"] == (added is not None), f"{name}: has_residual is {step['has_residual']}"
        for what, writer in (("x", source), ("residual", added)):
            if writer is None:
                continue
            read = plan.steps[writer]
            assert step[what] == read["out"], f"{name}: {what} is not the output of {plan.names[writer]}"
            found = owner[lines(step[what], size_in_bytes(plan, read))]
            assert (found == writer).all(), f"{name}: {what} holds the output of step {found[found != writer][0]}"
    assert plan.logits == plan.steps[-1]["out"] and plan.logits_width == plan.steps[-1]["out_channels"]


@any_shape(100)
def test_plan_buffers(shape):
    check_buffers(plan_of(*shape), dataflow(shape[0]))


@pytest.mark.parametrize("step, field, value, message", [
    pytest.param("blocks.2.1.conv_pwl", "residual", 64, "conv_pwl: residual is not the output of blocks.2.0", id="residual"),
    pytest.param("blocks.2.1.conv_dw", "x", 64, "conv_dw: x is not the output of blocks.2.1.conv_pw", id="x"),
    pytest.param("blocks.2.1.conv_pwl", "has_residual", 0, "conv_pwl: has_residual is 0", id="no_residual"),
    pytest.param("blocks.2.0.conv_pwl", "has_residual", 1, "conv_pwl: has_residual is 1", id="a_residual_too_many"),
    pytest.param("blocks.2.1.conv_dw", "out", 36, "conv_dw: out at 36", id="alignment"),
    pytest.param("conv_head", "out", 1 << 30, "conv_head: out leaves the arena", id="outside"),
])
def test_check_buffers_can_fail(step, field, value, message):
    plan = plan_of("lite0", 1, 64, 64)
    plan.steps[plan.names.index(step)][field] = value
    with pytest.raises(AssertionError, match=message):
        check_buffers(plan, dataflow("lite0"))


@pytest.mark.parametrize("at", ["conv_dw", "conv_pwl"])
def test_check_buffers_sees_an_overlap(at):
    """The output of a step laid over the block's input, which the residual still needs."""
    plan = plan_of("lite0", 2, 64, 64)
    entrance, i = plan.names.index("blocks.2.0.conv_pwl"), plan.names.index(f"blocks.2.1.{at}")
    plan.steps[i]["out"] = plan.steps[entrance]["out"]
    if at != "conv_pwl":
        plan.steps[i + 1]["x"] = plan.steps[i]["out"]
    with pytest.raises(AssertionError, match=r"blocks.2.1.conv_pwl: (x|residual) holds the output of step 1[34]\n"):
        check_buffers(plan, dataflow("lite0"))


buffer_lists = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=25)


@settings(deadline=None)
@given(buffer_lists)
def test_place_keeps_buffers_apart(sizes):
    buffers = [plan_module._Buffer(64 * size, born, born + life) for size, born, life in sizes]
    arena = plan_module.place(buffers)
    assert arena == max(b.offset + b.size for b in buffers)
    for moment in range(18):
        alive = sorted((b.offset, b.size) for b in buffers if b.born <= moment <= b.dies)
        ends = [0] + [offset + size for offset, size in alive]
        assert all(offset >= end and offset % 64 == 0 for (offset, _), end in zip(alive, ends)), (moment, alive)


@pytest.mark.parametrize("short", SHORT)
def test_arena_is_reused(short):
    """Not more than twice what must live at once: the input and the output of the greediest layer, and a shortcut."""
    size = build(short).variant.preprocessing.input_size[0]
    plan = plan_of(short, 1, size, size)
    sizes, flow, needed = [size_in_bytes(plan, step) for step in plan.steps], dataflow(short), 0
    for i, (_, source, added) in enumerate(flow):
        needed = max(needed, sizes[i] + sum(sizes[j] for j in (source, added) if j is not None))
    assert needed <= plan.arena_size <= 2 * needed < sum(sizes)


# --- steps -----------------------------------------------------------------------------------------------------------


@any_shape(50)
def test_plan_steps_say_what_the_layers_are(shape):
    short, batch, height, width = shape
    plan, network = plan_of(*shape), build(short)
    layers = network.layers(height, width)
    ops = {"stem": 0, "depthwise": 1, "pointwise": 2, "pool": 3, "classifier": 2}
    linear = {block.convs[-1].name for block in network.blocks} | {"classifier"}
    assert plan.steps.dtype == STEP and (plan.batch, plan.height, plan.width) == (batch, height, width)
    for step, layer in zip(plan.steps, layers, strict=True):
        assert step["op"] == ops[layer.op], layer.name
        for field in ("height", "width", "in_channels", "out_height", "out_width", "out_channels", "kernel", "stride"):
            assert step[field] == getattr(layer, field), (layer.name, field)  # 1000 classes are a multiple of 8
        if layer.op != "pool":
            assert step["top"] == naive.border(layer.height, layer.kernel, layer.stride)[0]
            assert step["left"] == naive.border(layer.width, layer.kernel, layer.stride)[0]
            assert (step["weight"], step["bias"]) == packed(short).offsets[layer.name]
        constants = plan.constants[step["constants"] // 4 :]
        pixels = layers[-2].height * layers[-2].width
        expected = [1 / pixels] if layer.op == "pool" else [-np.inf, np.inf] if layer.name in linear else [0, 6]
        assert constants[: len(expected)].tolist() == np.float32(expected).tolist(), layer.name


@pytest.mark.parametrize("classes, width", [(1, 8), (8, 8), (10, 16), (17, 24), (1000, 1000)])
def test_plan_pads_the_classes(classes, width):
    plan = plan_of("lite0", 2, 40, 31, classes, 1)
    assert plan.logits_width == plan.steps[-1]["out_channels"] == width
    check_buffers(plan, dataflow("lite0"))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 224, 224), (3, 33, 47)], ids=lambda s: "x".join(map(str, s)))
def test_plan_does_not_depend_on_threads(shape):
    plans = [Engine(weights("lite1"), threads).plan(*shape) for threads in (1, 2, 7, 64)]
    for plan in plans[1:]:
        assert plan.steps.tobytes() == plans[0].steps.tobytes()
        assert plan.constants.tobytes() == plans[0].constants.tobytes()
        assert (plan.arena_size, plan.logits, plan.names) == (plans[0].arena_size, plans[0].logits, plans[0].names)


# --- chunks ----------------------------------------------------------------------------------------------------------

WEIGHTS, CONSTANTS, ARENA, IMAGES = (i << 40 for i in range(1, 5))  # bases too far apart to be mistaken


class Calls:
    """Stands in for the kernels below `run_chunk`: notes what each call would write and where it would read."""

    def __init__(self, monkeypatch):
        self.written, self.read = [], []
        stand_ins = {"pointwise": self.pointwise, "stem_row": self.stem, "depthwise_row": self.depthwise, "POOL": self.pool}
        for name, stand_in in stand_ins.items():
            monkeypatch.setattr(run_module, name, stand_in)
        for name in ("run_rows", "run_pixels", "run_pool"):
            monkeypatch.setattr(run_module, name, getattr(run_module, name).py_func)

    def note(self, written, x, size, residual=None):
        self.written.append(written)
        self.read.append((x, size, residual))

    def pointwise(self, x, ins, weight, bias, bounds, has_residual, residual, out, outs, pixels, first, last):
        self.arguments = weight, bias, bounds, has_residual
        self.note((out, pixels, first, last), x, pixels * ins * 4, residual)

    def stem(self, x, height, width, ins, weight, bias, bounds, out, q, out_width, kernel, stride, top, left):
        self.arguments = weight, bias, bounds, 0
        self.shape = height, width, ins, out_width, kernel, stride, top, left
        self.note((out, q), x, height * width * ins * 4)

    depthwise = stem

    def pool(self, x, pixel, pixels, share, out, vectors):
        self.arguments = None, None, share, 0
        self.note((out, vectors), x, pixel * pixels)


def check_chunks(plan, calls):
    """Fail unless the chunks of every step write each of its outputs once, reading their own pictures' inputs."""
    fields = plan.steps.dtype.names
    for i, name in enumerate(plan.names):
        step = types.SimpleNamespace(**{field: int(plan.steps[i][field]) for field in fields})
        calls.written, calls.read = [], []
        for chunk in range(step.chunks):
            run_module.run_chunk.py_func(step, chunk, WEIGHTS, CONSTANTS, ARENA, IMAGES)
        out, x = ARENA + step.out, IMAGES if i == 0 else ARENA + step.x
        pixel, picture = step.out_channels * 4, step.height * step.width * step.in_channels * 4
        expected = WEIGHTS + step.weight, WEIGHTS + step.bias, CONSTANTS + step.constants, step.has_residual
        if step.op == plan_module.POINTWISE:
            pixels = plan.batch * step.out_height * step.out_width
            count = np.zeros((pixels, -(-step.out_channels // 16)), int)
            for (address, n, first, last), (source, _, residual) in zip(calls.written, calls.read):
                at, rest = divmod(address - out, pixel)
                assert rest == 0 and 0 <= at and at + n <= pixels and 0 <= first <= last <= count.shape[1], name
                assert source == x + at * step.in_channels * 4, f"{name}: pixel {at} reads another one"
                assert residual == ARENA + step.residual + at * pixel or not step.has_residual, name
                count[at : at + n, first:last] += 1
        elif step.op == plan_module.POOL:
            expected = None, None, CONSTANTS + step.constants, 0
            count = np.zeros(plan.batch, int)
            for (address, vectors), (source, size, _) in zip(calls.written, calls.read):
                n, rest = divmod(address - out, pixel)
                assert rest == 0 and (source, size, vectors * 8) == (x + n * picture, picture, step.out_channels), name
                count[n] += 1
        else:
            count = np.zeros(plan.batch * step.out_height, int)
            for (address, q), (source, size, _) in zip(calls.written, calls.read):
                row, rest = divmod(address - out, step.out_width * pixel)
                assert rest == 0 and row % step.out_height == q, f"{name}: row {row} computed as {q}"
                assert (source, size) == (x + row // step.out_height * picture, picture), f"{name}: another picture"
                count[row] += 1
            assert calls.shape == (step.height, step.width, step.in_channels, step.out_width, step.kernel, step.stride,
                                   step.top, step.left), name  # fmt: skip
        assert (count == 1).all(), f"{name}: an output is written {count[count != 1][0]} times"
        assert calls.arguments == expected, name


@any_shape(50)
def test_chunks_cover_every_output_once(shape):
    with pytest.MonkeyPatch.context() as monkeypatch:
        check_chunks(plan_of(*shape), Calls(monkeypatch))


def test_chunks_with_a_tail_of_classes(monkeypatch):
    check_chunks(plan_of("lite0", 3, 40, 31, 17, 4), Calls(monkeypatch))


@pytest.mark.parametrize("step, field, change, message", [
    ("blocks.1.0.conv_pw", "chunks", -1, "blocks.1.0.conv_pw: an output is written 0 times"),
    ("blocks.6.0.conv_pw", "panels_per_chunk", -1, "blocks.6.0.conv_pw: an output is written 0 times"),
    ("blocks.1.0.conv_pw", "items_per_chunk", -1, "blocks.1.0.conv_pw: an output is written 0 times"),
    ("blocks.1.0.conv_dw", "items_per_chunk", -1, "blocks.1.0.conv_dw: an output is written 0 times"),
    ("blocks.1.0.conv_dw", "items", -1, "blocks.1.0.conv_dw: an output is written 2 times"),
    ("conv_stem", "chunks", -1, "conv_stem: an output is written 0 times"),
    ("global_pool", "chunks", -1, "global_pool: an output is written 0 times"),
])
def test_check_chunks_can_fail(step, field, change, message, monkeypatch):
    plan = plan_of("lite0", 2, 200, 224)
    plan.steps[plan.names.index(step)][field] += change
    with pytest.raises(AssertionError, match=message):
        check_chunks(plan, Calls(monkeypatch))


@pytest.mark.parametrize("short", SHORT)
def test_chunks_give_many_threads_work(short):
    """At native size no step but the pool is a single chunk."""
    size = build(short).variant.preprocessing.input_size[0]
    plan = plan_of(short, 1, size, size)
    assert [name for name, step in zip(plan.names, plan.steps) if step["chunks"] < 4] == ["global_pool"]
