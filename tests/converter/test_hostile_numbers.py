"""Well-formed checkpoints whose numbers are extreme or contradict one another: a WeightsError, or what torch reads."""
from pathlib import Path

import numpy as np
import pytest
from checkpoints import (
    call,
    dictionary,
    legacy_file,
    name,
    number,
    numbers,
    program,
    refused,
    storage,
    tensor,
    text,
    tuple_of,
    zip_file,
)

from weights_convert import read_checkpoint

CASES = Path(__file__).parents[1] / "data" / "hostile"  # found by fuzzing: once a wrong error or misread
RAW = bytes(range(64))


def rebuilt_v3(held: bytes, offset: int, shape, strides, dtype: str) -> bytes:
    return call("torch._utils", "_rebuild_tensor_v3", held, number(offset), numbers(shape), numbers(strides), b"\x89",
                call("collections", "OrderedDict"), name("torch", dtype))


def viewed(kind="FloatStorage", numel=16, view=(3, 8), key="v", held="0") -> bytes:
    """The persistent id of a legacy view: (key, offset, size) in elements of the storage."""
    return storage(held, numel, kind, tuple_of(text(key), number(view[0]), number(view[1])))


def read(tmp_path, data: bytes) -> dict[str, np.ndarray]:
    (tmp_path / "x.pth").write_bytes(data)
    return read_checkpoint(tmp_path / "x.pth").tensors


@pytest.mark.parametrize("file, message", [
    ("empty_dims_huge.pth", "2305843009213693952 in the shape of a tensor"),
    ("st_empty_2_61.safetensors", "2305843009213693952 in the shape of tensor 'x'"),
    ("bfloat16_empty_2_61.safetensors", "4611686018427387903 in the shape of tensor 't0'"),
    ("legacy_big_numel_2_64.legacy.pth", "storage '0' has 18446744073709551616 elements"),
    ("stride_2_61_extent_1.pth", "2305843009213693952 in the strides of a tensor"),
    ("keywords_for_text.pth", "makes 's' with keywords"),
])
def test_found_by_fuzzing_is_refused(tmp_path, file, message):
    refused(tmp_path, (CASES / file).read_bytes(), message)


@pytest.mark.parametrize("file, start", [
    ("legacy_view_v3_wider.legacy.pth", 64 - 8), ("legacy_view_v3_wider_inside.legacy.pth", 640 - 8),
])
def test_found_by_fuzzing_is_read(file, start):
    """Four float64 from the eighth byte of the storage on, which ends the file."""
    data = (CASES / file).read_bytes()
    assert read_checkpoint(CASES / file).tensors["x"].tolist() == np.frombuffer(data[-start:], "<f8", 4).tolist()


@pytest.mark.parametrize("kind, dtype, view, first", [
    ("FloatStorage", "float64", (3, 8), 3 * 4 + 8), ("ByteStorage", "float32", (5, 40), 5 + 4),
    ("DoubleStorage", "int16", (2, 2), 2 * 8 + 2), ("FloatStorage", "int32", (3, 8), 3 * 4 + 4),
], ids=["wider", "wider_unaligned", "narrower", "equal"])
def test_legacy_view_counts_in_elements_of_its_storage(tmp_path, kind, dtype, view, first):
    """A tensor of two elements, from the second on, whose dtype differs from its storage's."""
    width = {"DoubleStorage": 8, "FloatStorage": 4, "ByteStorage": 1}[kind]
    numel = len(RAW) // width
    tensors = dictionary({"x": rebuilt_v3(viewed(kind, numel, view), 1, (2,), (1,), dtype)})
    expected = np.frombuffer(RAW, np.dtype(dtype).newbyteorder("<"), 2, first)
    assert read(tmp_path, legacy_file(program(tensors), [("0", numel, RAW)]))["x"].tolist() == expected.tolist()


REFUSED = {
    "view_ends_before_a_wider_element": (rebuilt_v3(viewed(view=(3, 3)), 0, (2,), (1,), "float64"),
                                         "ends at element 2 of storage '0', which has 1"),
    "view_at_two_places": (tensor(viewed(), (8,)) + text("y") + tensor(viewed(view=(4, 8)), (8,)),
                           r"the view 'v' is defined twice: as \(3, 8\) of storage '0' and as \(4, 8\)"),
    "view_called_like_a_storage": (tensor(viewed(key="0"), (8,)), "'0' names both a storage and a view"),
    "view_key_is_number": (tensor(storage("0", 16, "FloatStorage", numbers([7, 3, 8])), (8,)), "the view a tuple"),
    "view_key_of_257_characters": (tensor(viewed(key="v" * 257), (8,)), "the key a string of at most 256"),
    "view_of_2_to_60": (tensor(viewed(view=(0, 1 << 60)), (8,)), "1152921504606846976 in the view of a storage"),
    "numel_of_2_to_60": (tensor(storage("0", 1 << 60, "FloatStorage", b"N"), (8,)), "has 1152921504606846976 elements"),
    "numel_of_2_to_64": (tensor(storage("0", 1 << 64, "FloatStorage", b"N"), (8,)), "has 18446744073709551616"),
}


@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("case", REFUSED)
def test_legacy_numbers_are_refused(tmp_path, case, little):
    pieces, message = REFUSED[case]
    pickle = program(b"}(" + text("x") + pieces + b"u")
    refused(tmp_path, legacy_file(pickle, [("0", 16, RAW)], little=little), message)


def test_an_empty_storage_may_be_of_two_kinds(tmp_path):
    """torch writes one key for all tensors that share an empty storage, whatever their dtypes."""
    for make, more in ((legacy_file, (b"N",)), (zip_file, ())):
        pickle = program(dictionary({kind: tensor(storage("0", 0, f"{kind}Storage", *more), (0, 3))
                                     for kind in ("Float", "Long")}))
        got = read(tmp_path, make(pickle, [("0", 0, b"")] if more else {"0": b""}))
        assert {key: (array.dtype, array.shape) for key, array in got.items()} == {
            "Float": (np.float32, (0, 3)), "Long": (np.int64, (0, 3))}


def test_big_endian_tensor_of_another_width_is_refused(tmp_path):
    """torch swaps the bytes of each storage element: the content of a wider or narrower tensor is then undefined."""
    held, raw = storage("0", 16, "UntypedStorage"), np.arange(4, dtype=">f4").tobytes()
    wider = dictionary({"x": rebuilt_v3(held, 0, (4,), (1,), "float32")})
    data = zip_file(program(wider), {"0": raw}, byteorder=b"big")
    refused(tmp_path, data, "'x' is float32 in a storage of uint8, big-endian")
    same = rebuilt_v3(storage("0", 4, "FloatStorage"), 0, (4,), (1,), "float32")
    data = zip_file(program(dictionary({"x": same})), {"0": raw}, byteorder=b"big")
    assert read(tmp_path, data)["x"].tolist() == [0, 1, 2, 3]


def test_the_largest_numbers_below_the_limit(tmp_path):
    """Limits that NumPy still accepts: extents beside an empty one, and strides that are never used."""
    top = (1 << 60) - 1
    for kind, width in (("DoubleStorage", 8), ("BFloat16Storage", 2)):
        state = {"empty": tensor(storage("0", 8, kind), (top, 0), (top, top)),
                 "one": tensor(storage("0", 8, kind), (1, 8), (top, 1))}
        got = read(tmp_path, zip_file(program(dictionary(state)), {"0": bytes(8 * width)}))
        assert (got["empty"].shape, got["one"].shape) == ((top, 0), (1, 8))
