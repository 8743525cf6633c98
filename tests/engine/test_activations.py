"""Model.activations on the engine: the plain network's values, the same bits whatever else is asked for, no needless
work, and no buffer used again while its map is still to be read."""
import functools
from unittest import mock

import numpy as np
import pytest
from engines import assert_same_bits, pixels, weights
from golden_weights import packed
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kept_layers import check_kept, ran
from maps import assert_map
from planning import SHORT, free, freedom

from npefficient.engine import engine as engine_module
from npefficient.engine.plan import make_plan
from npefficient.errors import ArgumentError
from npefficient.model.features import FeatureModel
from npefficient.model.model import Model
from npefficient.network.architecture import GLOBAL_POOLS, build
from npefficient.network.layers import named_layers

THREADS = (1, 2, 3)
CLASSES = 5


@functools.cache
def model(variant, threads):
    """threads 0: the plain network."""
    backend = {"num_threads": threads} if threads else {"backend": "reference"}
    return Model(weights(variant, CLASSES), **backend)


def names_of(variant):
    return list(named_layers(build(variant, CLASSES)))


@st.composite
def requests(draw, variants=SHORT, most=80):
    """(variant, shape of the pictures, names)."""
    variant = draw(st.sampled_from(variants))
    shape = draw(st.integers(1, 3)), draw(st.integers(1, most)), draw(st.integers(1, most)), 3
    return variant, shape, draw(st.lists(st.sampled_from(names_of(variant)), min_size=1, max_size=6, unique=True))


# --- values ----------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(requests(), st.sampled_from(THREADS))
@example(("lite0", (1, 1, 1, 3), ["conv_stem"]), 1)
@example(("lite1", (2, 80, 80, 3), ["blocks.1.1.bn3", "blocks.1.1", "bn1"]), 2)
@example(("lite4", (3, 5, 80, 3), ["classifier", "global_pool", "bn2", "conv_head"]), 3)
def test_activations_are_the_plain_networks(request, threads):
    variant, shape, names = request
    x = pixels(*shape)
    got, right = model(variant, threads).activations(x, names), model(variant, 0).activations(x, names)
    assert list(got) == list(right) == names
    for name in names:
        assert_map(got[name], right[name], build(variant, CLASSES), name)


@settings(max_examples=20, deadline=None)
@given(requests(most=50), st.sampled_from(THREADS))
@example(("lite0", (3, 50, 33, 3), names_of("lite0")), 2)
@example(("lite2", (2, 1, 1, 3), ["blocks.0.0.bn1"]), 3)
def test_bits_depend_on_nothing_else(request, threads):
    """Neither on the other layers asked for, nor on the batch, nor on the threads."""
    variant, shape, names = request
    x = pixels(*shape)
    got = model(variant, threads).activations(x, names)
    for i in range(len(x)):
        alone = model(variant, 1).activations(x[i:i + 1], names_of(variant))
        for name in names:
            assert_same_bits(got[name][i:i + 1], alone[name])
    for name in names:
        assert_same_bits(model(variant, threads).activations(x, [name])[name], got[name])


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 64)])
@pytest.mark.parametrize("variant", SHORT)
def test_bits_of_the_whole_model(variant, size, threads):
    """A map has the same bits whether the run stops there or goes on to the logits."""
    m, x = model(variant, threads), pixels(2, *size, 3)
    some = m.activations(x, ["blocks.3", "classifier", "blocks.0.0.conv_dw"])
    assert_same_bits(some["classifier"], m(x))
    assert_same_bits(m.activations(x, ["blocks.4"])["blocks.4"], m.forward_intermediates(x, [3])[1][0])
    assert_same_bits(m.activations(x, ["blocks.3"])["blocks.3"], some["blocks.3"])


def test_maps_are_the_callers_own():
    """Later runs do not overwrite them, and what the caller writes into them affects no later run."""
    m, x = model("lite0", 1), pixels(2, 20, 20, 3)
    names = ["blocks.1", "conv_stem", "global_pool", "classifier", "bn1"]
    first = m.activations(x, names)
    kept = {name: array.copy() for name, array in first.items()}
    m.activations(pixels(2, 20, 20, 3, seed=1), names)
    for name in names:
        assert_same_bits(first[name], kept[name])
        assert first[name].flags.c_contiguous and first[name].flags.writeable, name
        first[name][:] = 7.0
    for name, array in m.activations(x, names).items():
        assert_same_bits(array, kept[name])


@pytest.mark.parametrize("names, message", [
    ("bn2", r"layers 'bn2': give a list of names, such as \['bn2'\]"),
    (None, r"layers None: give a list of names"),
    (["bn2", "bn4"], "layer 'bn4': tf_efficientnet_lite0 has no layer of this name .did you mean 'bn[12]'"),
    ([7], "layer 7: tf_efficientnet_lite0 has no layer of this name"),
    ([["bn1"]], r"layer \['bn1'\]: tf_efficientnet_lite0 has no layer of this name; npefficient.network.layers"),
], ids=["text", "none", "unknown", "number", "nested"])
def test_activations_refuse_names(names, message):
    with pytest.raises(ArgumentError, match=message):
        model("lite0", 1).activations(pixels(1, 9, 9, 3), names)


@pytest.mark.parametrize("threads", [0, 1])
def test_activations_check_the_input(threads):
    for names in (["bn2"], ["conv_stem"], []):
        with pytest.raises(ArgumentError, match=r"input of shape \(9, 9, 3\): it must be \(N, H, W, 3\)"):
            model("lite0", threads).activations(pixels(9, 9, 3), names)
        with pytest.raises(ArgumentError, match="input with nan: every value must be finite"):
            model("lite0", threads).activations(pixels(1, 9, 9, 3) * np.float32(np.nan), names)


def test_activations_of_nothing_and_of_the_same_twice():
    m, x = model("lite0", 1), pixels(1, 9, 9, 3)
    assert m.activations(x, []) == {}
    assert list(m.activations(x, ["bn2", "bn1", "bn2"])) == ["bn2", "bn1"]
    assert list(m.activations(x, (name for name in ["bn2", "bn1"]))) == ["bn2", "bn1"]


@pytest.mark.parametrize("x, message", [
    (np.zeros((1, 2, 2, 320), np.float32), r"features of shape \(1, 2, 2, 320\): it must be \(N, H, W, 1280\)"),
    (np.zeros((2, 2, 1280), np.float32), r"features of shape \(2, 2, 1280\): .*add the batch axis with x\[None\]"),
    (np.zeros((1, 0, 2, 1280), np.float32), r"features of shape \(1, 0, 2, 1280\)"),
    (np.zeros((1, 2, 2, 1280)), "features of dtype float64: it must be float32"),
    (np.full((1, 2, 2, 1280), np.inf, np.float32), "features with inf: every value must be finite"),
    ([1], "features of type list: .*they come from model.forward_features"),
], ids=["channels", "no_batch", "empty", "float64", "inf", "list"])
@pytest.mark.parametrize("threads", [0, 1])
def test_forward_head_refuses(x, message, threads):
    with pytest.raises(ArgumentError, match=message):
        model("lite0", threads).forward_head(x)


def test_forward_head_takes_any_strides():
    m = model("lite0", 2)
    wide = np.random.default_rng(0).uniform(0, 6, (3, 4, 6, 2560)).astype(np.float32)
    view = wide[:, ::-1, ::2, ::2]
    assert_same_bits(m.forward_head(view), m.forward_head(view.copy()))


# --- work ------------------------------------------------------------------------------------------------------------


def keeps(network):
    return st.frozensets(st.sampled_from([layer.name for layer in network.layers(9, 9)]), min_size=1, max_size=8)


@st.composite
def plans(draw):
    """(network, plan, layers kept)."""
    pool = draw(st.sampled_from(GLOBAL_POOLS))
    network = build(draw(st.sampled_from(SHORT)), draw(st.sampled_from([0, 3])) if pool else 0, 3, pool)
    size, threads = (draw(st.integers(1, 200)), draw(st.integers(1, 200))), draw(st.sampled_from([1, 2, 3, 8]))
    keep = draw(keeps(network))
    with free(draw(freedom)):
        return network, make_plan(network, packed(network.variant.short_name), *size, threads, keep), size, keep


@settings(max_examples=60, deadline=None)
@given(plans())
def test_plan_ends_with_the_last_layer_kept(drawn):
    """Each layer up to the last one kept is computed once, in one step, and none after it."""
    network, plan, size, keep = drawn
    layers = network.layers(*size)
    last = max(i for i, layer in enumerate(layers) if layer.name in keep)
    assert ran(plan) == layers[:last + 1]
    assert sum(layer.macs for layer in ran(plan)) == sum(layer.macs for layer in layers[:last + 1])
    assert len(plan.steps) == len(plan.layers) and plan.outputs.keys() == keep
    assert max(len(layers) for layers in plan.layers) <= 2
    assert all(layer.name not in keep for layers in plan.layers for layer in layers[:-1])


@settings(max_examples=60, deadline=None)
@given(plans())
def test_plan_leaves_alone_what_is_kept(drawn):
    check_kept(drawn[1])


def test_check_kept_can_fail():
    """A map whose buffer is given to a later layer as well."""
    network, keep = build("lite0"), frozenset(["blocks.0.0.conv_pw", "classifier"])
    plan = make_plan(network, packed("lite0"), 64, 64, 1, keep)
    check_kept(plan)
    later = [layers[-1].name for layers in plan.layers].index("blocks.3.0.conv_pwl")
    plan.steps["out"][later] = plan.outputs["blocks.0.0.conv_pw"].offset
    with pytest.raises(AssertionError, match="blocks.0.0.conv_pw: blocks.3.0.conv_pwl has written over it"):
        check_kept(plan)


def test_what_is_not_kept_is_written_over():
    """A plan that keeps every map takes far more memory, so plans usually do reuse buffers."""
    network = build("lite0")
    names = frozenset(layer.name for layer in network.layers(64, 64))
    everything = make_plan(network, packed("lite0"), 64, 64, 1, names)
    check_kept(everything)
    assert everything.arena_size > 3 * make_plan(network, packed("lite0"), 64, 64, 1).arena_size


@pytest.mark.parametrize("names, last", [
    (["conv_stem"], None), (["bn1"], "conv_stem"), (["blocks.0"], "blocks.0.0.conv_pw"),
    (["blocks.2.0.conv_dw"], "blocks.2.0.conv_pw"), (["blocks.2.0.bn2"], "blocks.2.0.conv_dw"),
    (["blocks.2.1.bn3"], "blocks.2.1.conv_dw"), (["blocks.2.1"], "blocks.2.1.conv_pwl"),
    (["blocks.6", "blocks.1"], "blocks.6.0.conv_pwl"), (["conv_head"], "blocks.6.0.conv_pwl"), (["bn2"], "conv_head"),
    (["global_pool"], "global_pool"), (["classifier", "bn1"], "classifier"),
], ids=lambda names: "+".join(names) if isinstance(names, list) else None)
def test_engine_runs_what_is_needed(names, last):
    """The last layer of the plan that `activations` makes; None where the engine has nothing to do."""
    m, x = Model(weights("lite0", CLASSES), num_threads=1), pixels(1, 24, 40, 3)
    assert last_layers(lambda: m.activations(x, names)) == ([] if last is None else [last])


def test_features_run_what_they_need():
    m, x = Model(weights("lite0", CLASSES), num_threads=1), pixels(1, 24, 40, 3)
    for run, last in ((lambda: m.forward_features(x), "conv_head"), (lambda: m(x), "classifier"),
                      (lambda: FeatureModel(m, [2])(x), "blocks.2.1.conv_pwl"),
                      (lambda: m.forward_intermediates(x, [1], intermediates_only=True), "blocks.1.1.conv_pwl"),
                      (lambda: m.forward_intermediates(x, [0], stop_early=True), "blocks.0.0.conv_pw"),
                      (lambda: m.forward_intermediates(x, [0, 3]), "conv_head")):
        assert last_layers(run) == [last]


def last_layers(run) -> list[str]:
    """The last layer of every plan that the engine makes meanwhile."""
    made = []

    def noted(*arguments):
        made.append(make_plan(*arguments))
        return made[-1]

    with mock.patch.object(engine_module, "make_plan", noted):
        run()
    return [plan.layers[-1][-1].name for plan in made]
