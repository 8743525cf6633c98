"""Valid checkpoints with flipped bits or cut ends, and random programs: a WeightsError or a result, nothing else."""
import checkpoints as by_hand
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npefficient.errors import WeightsError
from weights_convert import read_checkpoint

ARRAYS = {
    "bn1.weight": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "bn1.half": np.arange(4, dtype=np.float16),
    "bn1.num_batches_tracked": np.array(7, np.int64),
}
FILES = {form: by_hand.save(ARRAYS, form, wrapper="" if form == "safetensors" else "state_dict")
         for form in ("zip", "legacy", "safetensors")}
fuzz = settings(max_examples=400, deadline=5000, derandomize=True,
                suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def read(tmp_path):
    """bytes -> arrays, or None if the reader refuses them; any other exception fails the test."""
    path = tmp_path / "fuzzed.pth"

    def read(data: bytes):
        path.write_bytes(data)
        try:
            tensors = read_checkpoint(path).tensors
        except WeightsError as error:
            assert "fuzzed.pth" in str(error)
            return None
        assert all(type(name) is str and isinstance(array, np.ndarray) for name, array in tensors.items())
        assert not by_hand.SENTINEL.exists()
        return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in tensors.items()}

    return read


def flipped(data: bytes, bits) -> bytes:
    spoilt = bytearray(data)
    for bit in bits:
        spoilt[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(spoilt)


bit_lists = st.lists(st.integers(0, 8 * 4096 - 1), min_size=1, max_size=4)


@fuzz
@given(bits=bit_lists)
def test_zip_flips_never_change_a_number(read, bits):
    """The CRCs cover every entry, and the directory must match the entries' own headers."""
    expected, got = read(FILES["zip"]), read(flipped(FILES["zip"], bits))
    assert got is None or got == expected


def test_zip_single_bits_all_over(read):
    """The same for single bits in the whole file, only a few of which have no meaning (time stamps, versions)."""
    data = FILES["zip"]
    expected = read(data)
    results = [read(flipped(data, [bit])) for bit in range(3, 8 * len(data), 11)]
    assert all(got is None or got == expected for got in results)
    assert 0 < sum(got is not None for got in results) < len(results)


@pytest.mark.parametrize("name", ARRAYS)
def test_zip_every_bit_of_a_tensor_is_guarded(read, name):
    raw = ARRAYS[name].tobytes()
    start = FILES["zip"].index(raw)
    for bit in range(8 * start, 8 * (start + len(raw))):
        assert read(flipped(FILES["zip"], [bit])) is None


@fuzz
@given(bits=bit_lists)
def test_legacy_flips_are_an_error_or_a_result(read, bits):
    """This form has no checksum, so a flip may change numbers; the hash in an official file's name guards that."""
    read(flipped(FILES["legacy"], bits))


@fuzz
@given(bits=bit_lists)
def test_safetensors_flips_are_an_error_or_a_result(read, bits):
    read(flipped(FILES["safetensors"], bits))


@pytest.mark.parametrize("form", FILES)
def test_every_truncation_is_an_error(read, form):
    assert read(FILES[form]) is not None
    for length in range(len(FILES[form])):
        assert read(FILES[form][:length]) is None, length


OPCODES = [bytes([code]) for code in range(256)]
PIECES = st.one_of(
    st.sampled_from(OPCODES), st.binary(max_size=9), st.integers(0, 300).map(by_hand.number),
    st.sampled_from(["storage", "x", "0", "torch", "_rebuild_tensor_v2", "posix", "system"]).map(by_hand.text),
    st.sampled_from([("torch._utils", "_rebuild_tensor_v2"), ("collections", "OrderedDict"), ("argparse", "Namespace"),
                     ("torch", "FloatStorage"), ("torch", "Size"), ("torch._tensor", "_rebuild_from_type_v2")]
                    ).map(lambda pair: by_hand.name(*pair)),
    st.just(by_hand.storage()), st.just(by_hand.tensor(by_hand.storage(), (4,))),
    st.sampled_from([b"(", b"t", b"}", b"]", b")", b"u", b"s", b"e", b"a", b"R", b"\x81", b"b", b"Q", b"\x93",
                     b"q\x00", b"h\x00"]),
)


@fuzz
@given(pieces=st.lists(PIECES, max_size=30))
def test_random_programs(read, pieces):
    read(by_hand.zip_file(by_hand.program(*pieces)))


@fuzz
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", by_hand.program(
    by_hand.number(by_hand.MAGIC_NUMBER)), b"\x02\0\0\0\0\0\0\0{}", b"\x08\0\0\0\0\0\0\0{"]))
def test_random_bytes(read, data, start):
    read(start + data)
