"""The plan: what each step reads is what the right step has written, and its fields are the layers'.

The lifetime of a buffer is not taken from the planner: a shadow of the arena notes which step wrote each vector last,
and the way of a picture through the network says what each step ought to find.
"""
import naive
import numpy as np
import pytest
from golden_weights import packed
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import LANES, PANEL, VECTOR
from planning import SHORT, any_shape, freedom, logits_of, name_of, plan_of, shapes, step_named

from npefficient.engine import plan as plan_module
from npefficient.engine.arena import Buffer, place
from npefficient.engine.plan import STEP
from npefficient.kernels.memory import ALIGNMENT
from npefficient.network.architecture import build

# --- buffers ---------------------------------------------------------------------------------------------------------


def dataflow(short):
    """Each layer -> (the layer whose output it reads or None for the picture, the layer it adds or None)."""
    flow, entrance, block, before = {}, None, "", None
    for name_of_block, _, name, *_, step, ins, outs, clipped in naive.layers(short):
        if name_of_block != block:
            block, entrance, channels, strides = name_of_block, before, ins, 1
        strides = strides * step if block else 0
        adds = not clipped and strides == 1 and channels == outs
        flow[name], before = (before, entrance if adds else None), name
    return flow | {"global_pool": (before, None), "classifier": ("global_pool", None)}


def places(plan, layer, offset, plane):
    """The vectors of the arena that a layer's output takes at an offset, one plane for each block of channels."""
    blocks, pixels = -(-layer.out_channels // LANES), layer.out_height * layer.out_width
    assert offset % VECTOR == plane % VECTOR == 0 and plane >= pixels * VECTOR
    first = offset // VECTOR + np.arange(blocks)[:, None] * (plane // VECTOR)
    return (first + np.arange(pixels)).ravel()


def check_buffers(plan, short):
    """Fail unless every step finds whole what it reads, and writes over nothing that it or a later one reads."""
    flow, writers = dataflow(short), {}
    assert [layer.name for layers in plan.layers for layer in layers] == list(flow)
    assert plan.arena_size % ALIGNMENT == 0
    owner = np.full(plan.arena_size // VECTOR, -1, np.int16)
    for i, (step, layers) in enumerate(zip(plan.steps, plan.layers, strict=True)):
        name, (first, *others) = name_of(plan, i), layers
        for before, layer in zip(layers, others):  # only this step sees what its first layer computes
            readers = [reader for reader, read in flow.items() if before.name in read]
            assert readers == [layer.name], f"{name}: {before.name} is needed by {readers}"
        assert step["out"] % ALIGNMENT == 0 and step["out"] >= 0, f"{name}: out at {step['out']}"
        written = places(plan, layers[-1], step["out"], step["out_plane"])
        assert written[-1] < len(owner), f"{name}: out leaves the arena"
        owner[written] = writers[name] = i
        source, added = flow[first.name][0], flow[name][1]
        assert step["has_residual"] == (added is not None), f"{name}: has_residual is {step['has_residual']}"
        # A residual lies at a distance from out, its planes as far apart as there.
        for what, wanted, offset, plane in (("x", source, step["x"], step["x_plane"]),
                                            ("residual", added, step["out"] + step["residual"], step["out_plane"])):
            if wanted is None:
                continue
            writer = writers[wanted]
            read = plan.steps[writer]
            assert offset == read["out"], f"{name}: {what} is not the output of {wanted}"
            assert plane == read["out_plane"], f"{name}: the planes of {what} are not those of {wanted}"
            found = owner[places(plan, plan.layers[writer][-1], offset, plane)]
            assert (found == writer).all(), \
                f"{name}: {what} holds the output of {name_of(plan, found[found != writer][0])}"
    last = plan.steps[-1]
    assert logits_of(plan) == last["out"] and last["out_plane"] == VECTOR, "the logits are not one behind the other"


@any_shape(100)
def test_plan_buffers(shape):
    """Every step reads what the step before and the shortcut's have written, and nothing is written over too early."""
    check_buffers(plan_of(*shape), shape[0])


@settings(max_examples=40, deadline=None)
@given(shapes, freedom)
def test_plan_buffers_under_any_constants(shape, choices):
    """Stripes and parts move no buffer: each is right, and lies where it lies under the planner's own constants."""
    plan = plan_of(*shape, choices=choices)
    check_buffers(plan, shape[0])
    usual = plan_of(*shape)
    for field in ("x", "x_plane", "out", "out_plane", "residual"):
        np.testing.assert_array_equal(plan.steps[field], usual.steps[field])
    assert (plan.arena_size, plan.outputs) == (usual.arena_size, usual.outputs)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("step, field, value, message", [
    pytest.param("blocks.2.1.conv_pwl", "residual", 64, "conv_pwl: residual is not the output of blocks.2.0",
                 id="residual"),
    pytest.param("blocks.2.1.conv_dw", "x", 64, "conv_dw: x is not the output of blocks.2.", id="x"),
    pytest.param("blocks.2.1.conv_pwl", "x_plane", 192, "conv_pwl: the planes of x are not those of blocks.2.1.conv_dw",
                 id="plane"),
    pytest.param("blocks.2.1.conv_pwl", "has_residual", 0, "conv_pwl: has_residual is 0", id="no_residual"),
    pytest.param("blocks.2.0.conv_pwl", "has_residual", 1, "conv_pwl: has_residual is 1", id="a_residual_too_many"),
    pytest.param("blocks.2.1.conv_dw", "out", 36, "conv_dw: out at 36", id="alignment"),
    pytest.param("conv_head", "out", 1 << 30, "conv_head: out leaves the arena", id="outside"),
    pytest.param("classifier", "out_plane", 2 * VECTOR, "the logits are not one behind the other", id="logits"),
])
def test_check_buffers_can_fail(step, field, value, message, fused):
    plan = plan_of("lite0", 64, 64, fused=fused)
    step_named(plan, step)[field] = value
    with pytest.raises(AssertionError, match=message):
        check_buffers(plan, "lite0")


@pytest.mark.parametrize("at", ["conv_dw", "conv_pwl"])
def test_check_buffers_sees_an_overlap(at):
    """The output of a step laid over the block's input, which the residual still needs."""
    plan = plan_of("lite0", 64, 64)
    entrance, step = step_named(plan, "blocks.2.0.conv_pwl"), step_named(plan, f"blocks.2.1.{at}")
    project = step_named(plan, "blocks.2.1.conv_pwl")
    residual = project["out"] + project["residual"]
    step["out"] = entrance["out"]
    if at == "conv_dw":
        project["x"] = step["out"]
    else:
        project["residual"] = residual - project["out"]
    with pytest.raises(AssertionError, match=rf"blocks.2.1.\w+: (x|residual) holds the output of blocks.2.1.{at}\n"):
        check_buffers(plan, "lite0")


def test_check_buffers_sees_a_layer_taken_along_that_others_need():
    """A block's input can't disappear into a step, since the shortcut needs it as well."""
    plan = plan_of("lite0", 64, 64)
    i = [layers[-1].name for layers in plan.layers].index("blocks.2.1.conv_dw")
    layers = list(plan.layers)
    layers[i - 1 : i + 1] = [layers[i - 1] + layers[i]]
    object.__setattr__(plan, "layers", tuple(layers))
    object.__setattr__(plan, "steps", np.delete(plan.steps, i - 1))
    readers = r"\['blocks.2.1.conv_pw', 'blocks.2.1.conv_pwl'\]"
    with pytest.raises(AssertionError, match=f"blocks.2.0.conv_pwl is needed by {readers}"):
        check_buffers(plan, "lite0")


buffer_lists = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=25)


@settings(deadline=None)
@given(buffer_lists)
def test_place_keeps_buffers_apart(sizes):
    """At no moment do two buffers that live overlap, and the arena ends with the last of them."""
    buffers = [Buffer(64 * size, 64, 4, born, born + life) for size, born, life in sizes]
    arena = place(buffers)
    assert arena == max(b.offset + b.size for b in buffers)
    for moment in range(18):
        alive = sorted((b.offset, b.size) for b in buffers if b.born <= moment <= b.dies)
        ends = [0] + [offset + size for offset, size in alive]
        assert all(offset >= end and offset % 64 == 0 for (offset, _), end in zip(alive, ends)), (moment, alive)


@pytest.mark.parametrize("short", SHORT)
def test_arena_is_reused(short):
    """Not more than twice what must live at once: the input and the output of the greediest step, and a shortcut."""
    size = build(short).variant.preprocessing.input_size[0]
    plan, flow, needed, sizes = plan_of(short, size, size, 2), dataflow(short), 0, {None: 0}
    for i, layers in enumerate(plan.layers):
        name, last = name_of(plan, i), layers[-1]
        sizes[name] = last.activations * 4
        needed = max(needed, sizes[name] + sizes[flow[layers[0].name][0]] + sizes[flow[name][1]])
    assert needed <= plan.arena_size <= 2 * needed < sum(sizes.values())


# --- steps -----------------------------------------------------------------------------------------------------------


def expected_fields(layers, network, offsets):
    """What the layers of a step say about its fields."""
    ops = {"stem": 0, "depthwise": 1, "pointwise": 2, "classifier": 2, "pool": 3}
    before, last = layers[0] if len(layers) > 1 else None, layers[-1]
    blocks = -(-last.out_channels // LANES)
    expected = {"op": ops[last.op], "vectors": blocks}
    source = last if last.op == "stem" else before
    if last.op in ("pointwise", "classifier"):
        linear = last.op == "classifier" or any(last.name == block.convs[-1].name for block in network.blocks)
        half = LANES == 16 and last.op == "pointwise" and last.out_channels % 16 == 8
        expected |= {"pixels": last.height * last.width, "in_channels": last.in_channels, "relu6": not linear,
                     "half": half, "weight": offsets[last.name][0], "bias": offsets[last.name][1]}
    elif last.op == "pool":
        expected |= {"pixels": last.height * last.width}
    elif last.op == "depthwise":
        left, right = naive.border(last.width, last.kernel, last.stride)
        expected |= {field: getattr(last, field)
                     for field in ("height", "width", "out_height", "out_width", "kernel", "stride")}
        expected |= {"top": naive.border(last.height, last.kernel, last.stride)[0], "left": left,
                     "scratch_row": (left + last.width + right) * VECTOR,
                     "source": {None: 2, "stem": 0, "pointwise": 1}[before and before.op],
                     "depthwise_weight": offsets[last.name][0], "depthwise_bias": offsets[last.name][1]}
    if source:
        expected |= {"in_channels": source.in_channels, "weight": offsets[source.name][0],
                     "bias": offsets[source.name][1]}
    if source and source.op == "stem":
        top, left = (naive.border(size, source.kernel, source.stride)[0] for size in (source.height, source.width))
        expected |= {"picture_height": source.height, "picture_width": source.width, "picture_top": top,
                     "picture_left": left, "rows": source.out_height, "columns": source.out_width}
    return expected


def check_fields(plan, short):
    network, first = build(short), plan.layers[0][0]
    assert plan.steps.dtype == STEP
    assert [layer for layers in plan.layers for layer in layers] == network.layers(first.height, first.width)
    for i, layers in enumerate(plan.layers):
        for field, expected in expected_fields(layers, network, packed(short).offsets).items():
            got = plan.steps[i][field]
            assert got == expected, f"{name_of(plan, i)}: {field} is {got}, not {expected}"


@any_shape(50)
def test_plan_steps_say_what_the_layers_are(shape):
    plan = plan_of(*shape)
    assert (plan.layers[0][0].height, plan.layers[0][0].width) == shape[1:3]
    check_fields(plan, shape[0])
    together = [layers for layers in plan.layers if len(layers) > 1]
    assert len(together) == (len(build(shape[0]).blocks) if shape[4] else 0)
    assert all(layer.op == "depthwise" for _, layer in together)


@pytest.mark.parametrize("step, field, message", [
    ("blocks.0.0.conv_dw", "picture_top", "blocks.0.0.conv_dw: picture_top is 1, not 0"),
    ("blocks.1.0.conv_dw", "source", "blocks.1.0.conv_dw: source is 2, not 1"),
    ("blocks.1.0.conv_pwl", "half", r"blocks.1.0.conv_pwl: half is \d, not"),
    ("conv_head", "relu6", "conv_head: relu6 is 2, not True"),
])
def test_check_fields_can_fail(step, field, message):
    plan = plan_of("lite0", 64, 64)
    step_named(plan, step)[field] += 1
    with pytest.raises(AssertionError, match=message):
        check_fields(plan, "lite0")


@pytest.mark.parametrize("classes", [1, 8, 10, 17, 1000])
def test_plan_takes_whole_vectors_of_classes(classes):
    plan = plan_of("lite0", 40, 31, classes=classes, colours=1)
    last = plan.steps[-1]
    assert (last["vectors"], last["half"]) == (-(-classes // LANES), 0)
    check_buffers(plan, "lite0")


# --- scratch memory --------------------------------------------------------------------------------------------------


def check_scratch(plan, limit):
    """Fail unless a panel of every depthwise step has its planes, within the limit where there is more than a row."""
    for i, step in enumerate(plan.steps):
        if step["op"] != plan_module.DEPTHWISE:
            continue
        name, rows = name_of(plan, i), int(step["rows_at_once"])
        planes = PANEL if step["wide_panels"] else min(int(step["vectors"]), 2)
        needed = ((rows - 1) * step["stride"] + step["kernel"]) * step["scratch_row"]
        assert 1 <= rows <= step["out_height"], f"{name}: {rows} rows at once"
        plane = step["scratch_plane"]
        assert plane % VECTOR == 0 and plane >= needed, f"{name}: the plane is too small"
        assert planes * plane <= plan.scratch_size, f"{name}: scratch memory is too small"
        assert rows == 1 or planes * needed <= limit, f"{name}: {planes * needed} bytes at once"


@any_shape(50)
def test_plan_scratch(shape):
    """Scratch memory holds a panel's planes in every step, and a size that we chose where it is more than one row."""
    check_scratch(plan_of(*shape), plan_module.SCRATCH)


@settings(max_examples=40, deadline=None)
@given(shapes, freedom)
def test_plan_scratch_under_any_constants(shape, choices):
    check_scratch(plan_of(*shape, choices=choices), choices["SCRATCH"])


@pytest.mark.parametrize("field, value, message", [
    ("rows_at_once", 0, "conv_dw: 0 rows at once"),
    ("rows_at_once", 56, "conv_dw: the plane is too small"),
    ("scratch_plane", 1 << 20, "conv_dw: scratch memory is too small"),
])
def test_check_scratch_can_fail(field, value, message):
    plan = plan_of("lite0", 224, 224)
    step_named(plan, "blocks.1.0.conv_dw")[field] = value
    with pytest.raises(AssertionError, match=message):
        check_scratch(plan, plan_module.SCRATCH)


def test_check_scratch_holds_the_limit():
    with pytest.raises(AssertionError, match=r"blocks.\d.\d.conv_dw: \d+ bytes at once"):
        check_scratch(plan_of("lite0", 224, 224), 10_000)
