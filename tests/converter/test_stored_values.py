"""The stored values of a checkpoint: dtypes, batch counts, and values outside the range of float32."""
import checkpoints as by_hand
import numpy as np
import pytest
from live import needs_timm, timm, torch

from npefficient.errors import WeightsError
from npefficient.network.architecture import build
from npefficient.weights.weight_file import read_weights
from weights_convert import convert
from weights_convert.values import as_stored

NETWORK, LITE0 = by_hand.network(), build("lite0", 2, 3)
COUNTS = [name for name in NETWORK if name.endswith("num_batches_tracked")]
NAME = "tf_efficientnet_lite0.pth"


def stored(**changes):
    """(tensors, warnings) of NETWORK with entries replaced; dots of a name are written as __."""
    return as_stored(NETWORK | {name.replace("__", "."): array for name, array in changes.items()}, LITE0)


def count_of(value):
    got, warnings = stored(bn1__num_batches_tracked=value)
    count = got["bn1.num_batches_tracked"]
    assert (count.shape, count.dtype) == ((), np.int64)
    return int(count), warnings


# --- batch counts ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(), (1,)], ids=["scalar", "one"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_any_number_is_a_count(dtype, shape):
    assert count_of(np.full(shape, 77, dtype)) == (77, [])


@pytest.mark.parametrize("value", [np.float16(np.inf), np.float32(np.nan), np.float32(-1), np.int64(-7),
                                   np.float64(0.5), np.float64(1e300), np.uint64(2**63)],
                         ids=["half_of_many", "nan", "negative", "negative_int", "fraction", "huge", "beyond_int64"])
def test_what_is_no_count_is_set_to_0_with_a_warning(value):
    """Counts of 65,520 and more are infinite in float16."""
    got, warnings = count_of(np.array(value))
    assert got == 0 and len(warnings) == 1
    assert f"1 batch counts are not whole numbers of at least 0 ('{COUNTS[0]}' is {value.item()!r})" in warnings[0]


@pytest.mark.parametrize("missing", [COUNTS[:1], COUNTS], ids=["one", "all"])
def test_missing_counts_are_0(missing):
    got, warnings = as_stored({name: array for name, array in NETWORK.items() if name not in missing}, LITE0)
    assert got.keys() == NETWORK.keys() and all(got[name] == 0 and got[name].dtype == np.int64 for name in missing)
    assert len(warnings) == 1 and f"{len(missing)} batch counts ('{missing[0]}'" in warnings[0]


@needs_timm
@pytest.mark.parametrize("form", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "int32", "int16"])
def test_counts_of_every_kind_load_as_in_timm(tmp_path, kind, form):
    """The result of `{k: v.half() for ..}`: timm loads it, and so do we, with the same values."""
    import safetensors.torch

    torch.manual_seed(1)
    state = timm.create_model("tf_efficientnet_lite0", num_classes=2).state_dict()
    for i, name in enumerate(COUNTS):
        state[name] = torch.tensor([i]) if i % 2 else torch.tensor(i)
    narrow = {name: tensor.to(getattr(torch, kind)) if "int" not in kind or "tracked" in name else tensor
              for name, tensor in state.items()}
    path = tmp_path / f"tf_efficientnet_lite0.{form}"
    torch.save(narrow, path) if form == "pth" else safetensors.torch.save_file(narrow, path)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=2)
    model.load_state_dict({name: tensor.reshape(()) if "tracked" in name else tensor for name,
                           tensor in narrow.items()}, strict=True)
    done = convert(path)
    assert done.warnings == ()
    for name, expected in model.state_dict().items():
        assert np.array_equal(done.weights.parameters[name], expected.numpy()), name


# --- floats ----------------------------------------------------------------------------------------------------------

def test_float16_is_kept_and_float64_narrowed(tmp_path):
    kinds = {"conv_stem.weight": np.float16, "bn1.weight": np.float64}
    given = {key: array.astype(kinds.get(key, array.dtype)) for key, array in NETWORK.items()}
    source = tmp_path / NAME
    source.write_bytes(by_hand.save(given, "zip"))
    done = convert(source)
    got = read_weights(done.target).parameters
    assert got["conv_stem.weight"].dtype == np.float16 and np.array_equal(got["conv_stem.weight"],
                                                                          given["conv_stem.weight"])
    assert got["bn1.weight"].dtype == np.float32 and np.array_equal(got["bn1.weight"], given["bn1.weight"].astype("f4"))
    assert done.warnings == ()


def changed(*values) -> np.ndarray:
    """Float64 of bn1.bias with some values replaced."""
    array = NETWORK["bn1.bias"].astype("f8")
    array[: len(values)] = values
    return array


@pytest.mark.parametrize("values, count, largest", [
    ((1e-300,), 1, "1e-300"), ((1e-300, -1e-200, 0.0), 2, "1e-200"), ((1.1e-39,), 1, "1.1e-39"),
    ((-np.pi * 1e-39, 1e-46), 2, "3.14e-39"),
], ids=["becomes_0", "negative", "denormal", "both"])
def test_lost_values_are_counted_and_the_largest_is_named(values, count, largest):
    got, warnings = stored(bn1__bias=changed(*values))
    assert np.array_equal(got["bn1.bias"], changed(*values).astype("f4"))
    assert warnings == [f"{count} float64 values are so small that float32 rounds them to 0 or to fewer digits: the "
                       f"largest is {largest}, in 'bn1.bias'"]


@pytest.mark.parametrize("values", [(0.0, -0.0), (2.0**-149, 2.0**-127), (2.0**-126, 1.1e-37, np.pi, 1e38)],
                         ids=["zeros", "denormals_that_float32_has", "normal"])
def test_ordinary_rounding_is_no_loss(values):
    assert stored(bn1__bias=changed(*values))[1] == []


def test_losses_of_several_tensors_are_one_warning():
    _, (warning,) = stored(bn1__bias=changed(1e-60), bn1__weight=np.full(32, 1e-50))
    assert "33 float64 values" in warning and "the largest is 1e-50, in 'bn1.weight'" in warning


def test_float64_beyond_float32_is_refused():
    with pytest.raises(WeightsError, match=r"'bn1.bias' holds 1e\+300: it is too large for float32"):
        stored(bn1__bias=changed(1e300))
