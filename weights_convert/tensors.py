"""Tensors as a checkpoint describes them, and their conversion to arrays.

A tensor is a view: a storage (a run of elements of one type somewhere in the file), an offset, a shape and strides, all
in elements. Several tensors may share a storage, a stride may be 0 (an expanded tensor), and a file may lie about any
of these numbers. So descriptions are collected first, and only the tensors of the chosen state_dict become arrays,
after a check of their bounds and within a budget of bytes.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npefficient.common.text import quoted
from npefficient.errors import WeightsError

MAX_DIMENSIONS = 8  # a convolution has 4
# Numbers of elements are below this. At up to 8 bytes each, their bytes stay below 2**63, which NumPy requires even for
# the other extents of an empty array and for strides that are never used.
LIMIT = 1 << 60

# Element kind (torch's name of the dtype) -> NumPy dtype of its bytes.
ELEMENTS = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1",
    "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "u1",
}
# Kinds that a file may contain but that are not read, with their bytes.
UNREAD = {
    "complex128": 16, "complex64": 8, "complex32": 4, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1, "qint8": 1, "quint8": 1, "qint32": 4,
    "quint4x2": 1, "quint2x4": 1,
}


def item_size(element: str) -> int:
    """Bytes of one element."""
    return UNREAD.get(element) or np.dtype(ELEMENTS[element]).itemsize


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `numel` elements under `key`; `view` is (offset, size) in elements within it, legacy files only."""

    key: str
    element: str
    numel: int
    view: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes under the key."""
        return self.numel * item_size(self.element)

    @property
    def part(self) -> slice:
        """The view's place in the bytes under the key; torch counts its offset in the storage's own elements."""
        offset, size = self.view or (0, self.numel)
        width = item_size(self.element)
        return slice(offset * width, (offset + size) * width)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage; `offset` and `strides` in elements of the tensor's own kind."""

    storage: Storage
    element: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    flaw: str = ""  # why it can't become an array; reported only if the state_dict needs the tensor

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def check_numbers(what: str, values) -> tuple[int, ...]:
    """Return `values` as a tuple of whole numbers in 0..LIMIT; raises WeightsError for anything else."""
    if type(values) not in (tuple, list):
        raise WeightsError(f"the {what} is {quoted(values)}: it must be a tuple of whole numbers")
    for value in values:
        if type(value) is not int or not 0 <= value < LIMIT:
            raise WeightsError(f"{quoted(value)} in the {what}: it must be a whole number from 0 up, below 2**60")
    if len(values) > MAX_DIMENSIONS:
        raise WeightsError(f"the {what} has {len(values)} entries: the limit is {MAX_DIMENSIONS}")
    return tuple(values)


def check_shape(what: str, values) -> tuple[int, ...]:
    """Return `values` as a shape that NumPy can have, empty or not; raises WeightsError for anything else."""
    shape = check_numbers(what, values)
    if math.prod(extent or 1 for extent in shape) >= LIMIT:
        raise WeightsError(f"the {what} is {shape}: the product of its nonzero extents must be below 2**60")
    return shape


def make_tensor(storage, offset, shape, strides, element: str | None = None, flaw: str = "") -> Tensor:
    """Check a description from a file; raises WeightsError if the tensor leaves its storage."""
    if not isinstance(storage, Storage):
        raise WeightsError(f"the storage of a tensor is {quoted(storage)}: it must be a torch storage")
    (offset,) = check_numbers("offset of a tensor", (offset,))
    shape, strides = check_shape("shape of a tensor", shape), check_numbers("strides of a tensor", strides)
    if len(shape) != len(strides):
        raise WeightsError(f"a tensor of shape {shape} has strides {strides}: they must be of equal length")
    element = element or storage.element
    if element in UNREAD:
        flaw = f"is {element}: only {', '.join(ELEMENTS)} are read; convert it to float32 (.float()) before saving"
    tensor = Tensor(storage, element, offset, shape, strides, flaw)
    held = (storage.part.stop - storage.part.start) // item_size(element)
    end = offset + 1 + sum((n - 1) * s for n, s in zip(shape, strides)) if tensor.count else offset
    if end > held:
        raise WeightsError(f"a tensor of shape {shape}, strides {strides} and offset {offset} ends at element {end} "
                           f"of storage {quoted(storage.key)}, which has {held}")
    return tensor


@dataclass
class Materialiser:
    """Converts tensors to arrays; `read(storage)` returns the bytes under a storage's key.

    `budget` bounds the bytes of all arrays, with the element sizes of the file (bfloat16: two bytes).
    """

    read: Callable[[Storage], memoryview]
    byte_order: str  # "<" or ">"
    budget: int  # bytes

    @classmethod
    def for_file(cls, read: Callable[[Storage], memoryview], byte_order: str, size: int) -> "Materialiser":
        """Budget: the file's size, plus 16 MiB for expanded and shared tensors; a classifier of 1000 classes has 5."""
        return cls(read, byte_order, (16 << 20) + size)

    def __call__(self, name: str, tensor: Tensor) -> np.ndarray:
        """Return a new, contiguous array in the machine's byte order; bfloat16 becomes float32, which is lossless."""
        if tensor.flaw:
            raise WeightsError(f"the tensor {quoted(name)} {tensor.flaw}")
        width = item_size(tensor.element)
        self.budget -= tensor.count * width
        if self.budget < 0:
            raise WeightsError(f"the tensor {quoted(name)} of shape {tensor.shape} and strides {tensor.strides}, with "
                               "those before it, would unpack to over 16 MiB more than the file's size: .clone() "
                               "expanded tensors before saving; otherwise the file is broken or hostile")
        if self.byte_order == ">" and item_size(tensor.storage.element) != width:
            raise WeightsError(f"the tensor {quoted(name)} is {tensor.element} in a storage of "
                               f"{tensor.storage.element}, big-endian: it is unclear which bytes to swap; save it on a "
                               "little-endian machine")
        dtype = np.dtype(self.byte_order + ELEMENTS[tensor.element])
        if not tensor.count:
            return native(np.empty(tensor.shape, dtype), tensor.element)
        raw = self.read(tensor.storage)[tensor.storage.part]
        steps = tuple(stride * width for stride in tensor.strides)
        return native(np.ndarray(tensor.shape, dtype, raw, tensor.offset * width, steps), tensor.element)


def native(view: np.ndarray, element: str) -> np.ndarray:
    """A contiguous copy in the machine's byte order; bfloat16, the upper half of a float32, becomes float32.

    A bool is true for any byte other than 0, as in torch.
    """
    if element == "bool":
        return view.astype(bool, order="C")
    if element != "bfloat16":
        return view.astype(view.dtype.newbyteorder("="), order="C")
    bits = view.astype(np.uint32, order="C")
    bits <<= np.uint32(16)
    return bits.view(np.float32)
