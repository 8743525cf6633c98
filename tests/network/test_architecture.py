"""The five variants as data: equal to timm's models, to the paper's table, and to published figures."""
import dataclasses
import functools
import math

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live import needs_timm, timm, torch

from npefficient.errors import ArgumentError
from npefficient.network import architecture
from npefficient.network.architecture import build, same_padding, scale_width
from npefficient.network.preprocessing import Preprocessing
from npefficient.network.variants import VARIANTS, canonical_name

SHORT = [f"lite{i}" for i in range(5)]
SIZES = {"native": None, "one_odd": (225, 224), "odd": (223, 301), "small": (33, 47), "one_pixel": (1, 1)}

# Published or measured elsewhere: input, crop, filter, channels of the stages, their repeats, trainable parameters,
# entries of the state_dict, multiply-accumulates at the native size, top-1 and top-5, bytes of the official file.
PUBLISHED = {
    "lite0": (224, 0.875, "bicubic", "16 24 40 80 112 192 320", "1223341", 4_652_008, 296, 385_187_552, 74.83, 92.17,
              "tf_efficientnet_lite0-0aa007d2.pth", 18_820_223),
    "lite1": (240, 0.882, "bicubic", "16 24 40 80 112 192 320", "1334451", 5_416_680, 386, 600_185_232, 76.67, 93.24,
              "tf_efficientnet_lite1-bde8b488.pth", 21_939_331),
    "lite2": (260, 0.890, "bicubic", "16 24 48 88 120 208 352", "1334451", 6_092_072, 386, 859_736_272, 77.48, 93.75,
              "tf_efficientnet_lite2-dcccb7df.pth", 24_658_687),
    "lite3": (300, 0.904, "bilinear", "24 32 48 96 136 232 384", "1335561", 8_197_096, 440, 1_607_554_544, 79.83, 94.91,
              "tf_efficientnet_lite3-b733e338.pth", 33_161_413),
    "lite4": (380, 0.920, "bilinear", "24 32 56 112 160 272 448", "1446681", 13_006_568, 548, 3_943_564_112, 81.54,
              95.66, "tf_efficientnet_lite4-741542c3.pth", 52_558_819),
}  # fmt: skip


def native(short):
    return VARIANTS[canonical_name(short)].preprocessing.input_size


# --- against what was published --------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", SHORT)
def test_variant_published(short):
    variant, network = VARIANTS[f"tf_efficientnet_{short}"], build(short)
    size, crop, interpolation, channels, repeats, params, keys, macs, top1, top5, file, file_size = PUBLISHED[short]
    expected = Preprocessing((size, size), crop, interpolation, (0.5,) * 3, (0.5,) * 3, "center")
    assert variant.preprocessing == expected
    assert (variant.top1, variant.top5, variant.file, variant.file_size) == (top1, top5, file, file_size)
    assert (variant.short_name, variant.sha256_prefix) == (short, file[-12:-4])
    assert variant.url == f"https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/{file}"
    assert " ".join(str(stage[-1].out_channels) for stage in network.stages) == channels
    assert "".join(str(len(stage)) for stage in network.stages) == repeats
    assert network.param_count() == params
    assert len(network.parameters()) == keys
    assert network.macs(size, size) == macs


@pytest.mark.parametrize("short", SHORT)
@pytest.mark.parametrize("classes, colours", [(1000, 3), (1, 1), (10, 4)])
def test_parameters_equal_naive(short, classes, colours):
    expected = naive.shapes(short, classes, colours)
    got = build(short, classes, colours).parameters()
    assert list(got.items()) == list(expected.items())
    trained = [shape for name, shape in expected.items()
               if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert build(short, classes, colours).param_count() == sum(map(math.prod, trained))


@pytest.mark.parametrize("short", SHORT)
def test_blocks_skip_where_nothing_changes(short):
    network = build(short)
    expected = [block.name for stage in network.stages for block in stage[1:]]  # a stage's first one changes something
    assert [block.name for block in network.blocks if block.skip] == expected
    assert {(b.name, b.kind) for b in network.blocks if b.kind == "ds"} == {("blocks.0.0", "ds")}


@pytest.mark.parametrize("short", SHORT)
def test_convs_are_linear_only_at_the_end_of_a_block(short):
    network = build(short)
    expected = [block.convs[-1].name for block in network.blocks]
    assert [conv.name for conv in network.convs if not conv.relu6] == expected
    assert {name.rsplit(".", 1)[1] for name in expected} == {"conv_pw", "conv_pwl"}
    assert [name for name in expected if name.endswith("conv_pw")] == ["blocks.0.0.conv_pw"]


@pytest.mark.parametrize("short", SHORT)
def test_channels_are_multiples_of_eight(short):
    """The kernels rely on it: they have no code for a remainder of channels."""
    assert all(conv.out_channels % 8 == 0 for conv in build(short).convs)


@pytest.mark.parametrize("height, width", [(224, 224), (33, 47), (1, 1), (1, 300)])
def test_layers_hand_on_their_shapes(height, width):
    network = build("lite2", 10, 4)
    layers = network.layers(height, width)
    assert [layer.name for layer in layers] == [c.name for c in network.convs] + ["global_pool", "classifier"]
    assert (layers[0].height, layers[0].width, layers[0].in_channels) == (height, width, 4)
    for before, after in zip(layers, layers[1:-1]):
        assert (after.height, after.width) == (before.out_height, before.out_width)
        assert after.in_channels == before.out_channels
    *_, pool, classifier = layers
    assert (pool.out_height, pool.out_width, pool.activations, pool.macs, pool.params) == (1, 1, 1280, 0, 0)
    assert (classifier.in_channels, classifier.activations) == (1280, 10)
    assert (classifier.macs, classifier.params) == (12800, 12810)
    assert layers[0].activations == -(-height // 2) * -(-width // 2) * 32
    assert sum(layer.params for layer in layers) == network.param_count()
    assert sum(layer.macs for layer in layers) == network.macs(height, width)


def test_pool_and_classifier_take_the_channels_of_the_head():
    network = build("lite0", num_classes=10)
    small = dataclasses.replace(network, head=dataclasses.replace(network.head, out_channels=128))
    pool, classifier = small.head_layers(4, 4)
    assert (pool.in_channels, pool.out_channels, classifier.in_channels, classifier.params) == (128, 128, 128, 1290)


# --- against timm ----------------------------------------------------------------------------------------------------


@functools.cache
def timm_model(short, classes=1000, colours=3):
    """timm's model with fresh weights: only names and shapes are looked at here."""
    return timm.create_model(f"tf_efficientnet_{short}", num_classes=classes, in_chans=colours).eval()


def traced(model, height, width):
    """Name -> (channels, rows, columns) of the output of every convolution in the order of execution, and all MACs."""
    found, macs = {}, [0]

    def hook(name, module, inputs, output):
        found[name] = tuple(output.shape[1:])
        macs[0] += math.prod(output.shape[2:]) * module.weight.numel()

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [module.register_forward_hook(functools.partial(hook, name))
             for name, module in model.named_modules() if isinstance(module, kinds)]
    with torch.no_grad():
        model(torch.zeros(1, 3, height, width))
    for handle in hooks:
        handle.remove()
    del found["classifier"]
    return found, macs[0]


@needs_timm
@pytest.mark.parametrize("short", SHORT)
@pytest.mark.parametrize("classes, colours", [(1000, 3), (10, 1), (17, 4)])
def test_parameters_equal_timm(short, classes, colours):
    model, network = timm_model(short, classes, colours), build(short, classes, colours)
    expected = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    assert list(network.parameters().items()) == expected
    assert network.param_count() == sum(p.numel() for p in model.parameters())


@needs_timm
@pytest.mark.parametrize("short", SHORT)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_layers_equal_a_traced_timm_model(short, size):
    height, width = size or native(short)
    expected, macs = traced(timm_model(short), height, width)
    network = build(short)
    *convs, _, _ = network.layers(height, width)
    got = {layer.name: (layer.out_channels, layer.out_height, layer.out_width) for layer in convs}
    assert list(got.items()) == list(expected.items())
    assert network.macs(height, width) == macs


@needs_timm
@pytest.mark.parametrize("short", SHORT)
def test_convs_equal_timm(short):
    modules = dict(timm_model(short).named_modules())
    for conv in build(short).convs:
        module, norm = modules[conv.name], modules[conv.bn]
        assert (module.kernel_size, module.stride) == ((conv.kernel,) * 2, (conv.stride,) * 2)
        assert module.groups == (conv.in_channels if conv.op == "depthwise" else 1)
        assert module.bias is None and norm.eps == architecture.BN_EPS
        assert isinstance(norm.act, torch.nn.ReLU6 if conv.relu6 else torch.nn.Identity), conv.name


@needs_timm
@pytest.mark.parametrize("short", SHORT)
def test_blocks_equal_timm(short):
    modules = dict(timm_model(short).named_modules())
    for block in build(short).blocks:
        assert modules[block.name].has_skip == block.skip, block.name


@needs_timm
@pytest.mark.parametrize("short", SHORT)
def test_variant_equals_timm(short):
    variant, expected = VARIANTS[f"tf_efficientnet_{short}"], timm_model(short).pretrained_cfg
    got = variant.preprocessing
    assert (3, *got.input_size) == expected["input_size"]
    for field in ("crop_pct", "interpolation", "mean", "std", "crop_mode"):
        assert getattr(got, field) == expected[field], field
    assert variant.url == expected["url"]
    assert expected["hf_hub_id"] == f"timm/{variant.name}.in1k"


@pytest.mark.parametrize("channels, width, expected", [
    pytest.param(16, 1.0, 16, id="unscaled"),
    pytest.param(24, 1.1, 24, id="down"),
    pytest.param(40, 1.1, 48, id="half_way_goes_up"),  # 44
    pytest.param(16, 1.4, 24, id="up"),  # 22.4
    pytest.param(1, 1.0, 8, id="at_least_8"),
    pytest.param(11, 0.5, 8, id="at_least_8_from_below"),
    pytest.param(13, 1.0, 16, id="up_to_16"),
    pytest.param(11, 1.0, 16, id="0.9_rule"),  # 8 < 9.9
    pytest.param(9, 1.0, 16, id="0.9_rule_just"),  # 8 < 8.1
    pytest.param(19, 1.0, 24, id="0.9_rule_at_16"),  # 16 < 17.1
    pytest.param(17, 1.0, 16, id="0.9_rule_not_yet"),  # 16 > 15.3
    pytest.param(320, 1.1, 352, id="float_error"),  # 352.00000000000006
])
def test_scale_width(channels, width, expected):
    assert scale_width(channels, width) == expected


@given(st.integers(1, 4000), st.sampled_from([0.35, 0.5, 0.75, 1.0, 1.1, 1.2, 1.4, 2.2]))
def test_scale_width_equals_naive(channels, width):
    got = scale_width(channels, width)
    assert got == naive.eighths(channels * width)
    assert got % 8 == 0 and got >= max(8, 0.9 * channels * width)


@pytest.mark.parametrize("size, kernel, stride, expected", [
    pytest.param(224, 3, 1, (1, 1), id="k3s1"),
    pytest.param(224, 5, 1, (2, 2), id="k5s1"),
    pytest.param(224, 3, 2, (0, 1), id="k3s2_even"),
    pytest.param(224, 5, 2, (1, 2), id="k5s2_even"),
    pytest.param(225, 3, 2, (1, 1), id="k3s2_odd"),
    pytest.param(225, 5, 2, (2, 2), id="k5s2_odd"),
    pytest.param(1, 5, 2, (2, 2), id="k5s2_one_pixel"),
    pytest.param(2, 5, 2, (1, 2), id="k5s2_two_pixels"),
    pytest.param(7, 1, 1, (0, 0), id="k1s1"),
    pytest.param(7, 1, 2, (0, 0), id="stride_beyond_kernel"),
])
def test_same_padding(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected == naive.border(size, kernel, stride)


@given(st.integers(1, 5000), st.integers(1, 9), st.integers(1, 4))
def test_same_padding_equals_naive(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    assert (before, after) == naive.border(size, kernel, stride)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride) or kernel < stride


@pytest.mark.parametrize("what, least", [("num_classes", 0), ("in_chans", 1)])
@pytest.mark.parametrize("count", [-1, 2.0, True, "10", None, math.nan])
def test_build_refuses_counts(what, least, count):
    with pytest.raises(ArgumentError, match=f"^{what} {count!r}: it must be a whole number of at least {least}$"):
        build("lite0", **{what: count})


@pytest.mark.parametrize("count", [1, 7, np.int64(7), np.uint8(200)], ids=repr)
def test_build_counts(count):
    network = build("lite1", count, count)
    assert network.parameters()["classifier.weight"] == (int(count), 1280)
    assert network.parameters()["conv_stem.weight"] == (32, int(count), 3, 3)
    assert type(network.num_classes) is type(network.in_chans) is type(network.stem.in_channels) is int
