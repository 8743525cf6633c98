"""Peak memory of a conversion: twice the larger of checkpoint and weight file, however the tensors are stored."""
import tracemalloc

import checkpoints as by_hand
import numpy as np
import pytest
from checkpoints import dictionary, program, storage, tensor, zip_file

from npefficient.errors import WeightsError
from npefficient.network.parameters import same_bits
from weights_convert import convert

NETWORK = by_hand.network(4000)  # its classifier has 20 MB, by far the largest tensor
NAME = "tf_efficientnet_lite0.pth"


def bfloat16() -> bytes:
    """NETWORK truncated to bfloat16."""
    raws, entries = {}, {}
    for i, (key, array) in enumerate(NETWORK.items()):
        half = array.dtype == np.float32
        raws[str(i)] = (array.view(np.uint32) >> 16).astype(np.uint16).tobytes() if half else array.tobytes()
        entries[key] = tensor(storage(str(i), array.size, "BFloat16Storage" if half else "LongStorage"), array.shape)
    return zip_file(program(dictionary(entries)), raws)


def expanded() -> bytes:
    """A network whose classifier is one row expanded to 3000."""
    rest = {key: array for key, array in by_hand.network(3000).items() if key != "classifier.weight"}
    raws = {str(i): array.tobytes() for i, array in enumerate(rest.values())} | {"row": bytes(4 * 1280)}
    entries = {key: tensor(storage(str(i), array.size, by_hand.CLASSES[array.dtype.str[1:]]), array.shape)
               for i, (key, array) in enumerate(rest.items())}
    entries["classifier.weight"] = tensor(storage("row", 1280), (3000, 1280), (0, 1))
    return zip_file(program(dictionary(entries)), raws)


FILES = {
    "float32_zip": lambda: by_hand.save(NETWORK, "zip"),
    "float32_legacy": lambda: by_hand.save(NETWORK, "legacy"),
    "float32_safetensors": lambda: by_hand.save(NETWORK, "safetensors"),
    "float64": lambda: by_hand.save({key: array.astype("f8") if array.dtype == np.float32 else array
                                     for key, array in NETWORK.items()}, "zip"),
    "bfloat16": bfloat16,
    "expanded": expanded,
}


@pytest.mark.parametrize("case", FILES)
def test_convert_holds_twice_the_larger_file(tmp_path, case):
    source = tmp_path / NAME
    source.write_bytes(FILES[case]())
    tracemalloc.start()
    try:
        done = convert(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    larger = max(done.source_size, done.target_size)
    assert larger > 25 << 20
    assert peak < 2.2 * larger + (4 << 20), f"{peak / larger:.2f} times"


def test_expanded_tensors_are_bounded_by_the_file(tmp_path):
    """One row expanded to 17 MiB, in a file of 6 kB."""
    pickle = program(dictionary({"x": tensor(storage("0", 1280), (3500, 1280), (0, 1))}))
    (tmp_path / NAME).write_bytes(zip_file(pickle, {"0": bytes(4 * 1280)}))
    with pytest.raises(WeightsError, match="the tensor 'x' of shape .3500, 1280. .* 16 MiB more than the file's size"):
        convert(tmp_path / NAME)


@pytest.mark.parametrize("other", [
    np.arange(6, dtype="f4"), np.arange(6, dtype="i4").reshape(2, 3),
    np.array([[0, 1, 2], [3, 4, np.nextafter(np.float32(5), np.float32(6))]], "f4"),
    np.array([[-0.0, 1, 2], [3, 4, 5]], "f4"),
], ids=["shape", "dtype", "last_bit", "sign_of_zero"])
def test_same_bits_can_tell(other):
    one = np.arange(6, dtype="f4").reshape(2, 3)
    assert same_bits(one, one.copy())
    assert not same_bits(one, other)


def test_same_bits_looks_everywhere():
    one = np.zeros(3 << 18, np.float32)  # 3 MiB
    for place in (0, (1 << 18) - 1, 1 << 18, one.size - 1):
        other = one.copy()
        other[place] = np.nan
        assert not same_bits(one, other) and same_bits(other, other.copy())
    strided = np.arange(12.0).reshape(3, 4)[::-1, ::2]
    assert same_bits(strided, strided.copy()) and not same_bits(strided, strided[::-1])
    assert same_bits(np.array(3), np.array(3)) and not same_bits(np.array(3), np.array(4))
    assert same_bits(np.zeros((0, 2)), np.zeros((0, 2)))
