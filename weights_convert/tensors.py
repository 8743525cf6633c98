"""Tensors as a checkpoint describes them, and how they become arrays.

A tensor is a view: a storage (a run of equal elements somewhere in the file), an offset, a shape and strides, all in
elements. Several tensors may share one storage, a stride may be 0 (an expanded tensor), and a file may lie about any of
these numbers. So descriptions are collected first, and only the tensors of the chosen state_dict become arrays, after
their bounds were checked and against a budget of bytes.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npefficient.errors import WeightsError
from npefficient.text import quoted

MAX_DIMENSIONS = 8  # a convolution has 4

# Element kind (torch's name of the dtype) -> NumPy dtype of its bytes.
ELEMENTS = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1",
    "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "u1",
}


def item_size(element: str) -> int:
    """Bytes of one element."""
    return np.dtype(ELEMENTS[element]).itemsize


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `numel` elements under `key`; `view` is (offset, size) in elements within it, legacy files only."""

    key: str
    element: str
    numel: int
    view: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        return self.numel * item_size(self.element)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage; `offset` and `strides` in elements of the tensor's own kind."""

    storage: Storage
    element: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def check_numbers(what: str, values) -> tuple[int, ...]:
    """Return `values` as a tuple of whole numbers in 0..2**62; raises WeightsError for anything else."""
    if type(values) not in (tuple, list):
        raise WeightsError(f"the {what} is {quoted(values)}: it must be a tuple of whole numbers")
    for value in values:
        if type(value) is not int or not 0 <= value < 1 << 62:
            raise WeightsError(f"the {what} holds {quoted(value)}: it must be a whole number from 0 up")
    if len(values) > MAX_DIMENSIONS:
        raise WeightsError(f"the {what} has {len(values)} entries: at most {MAX_DIMENSIONS} are read")
    return tuple(values)


def make_tensor(storage, offset, shape, strides, element: str | None = None) -> Tensor:
    """Check a description that came out of a file; raises WeightsError where it leaves its storage."""
    if not isinstance(storage, Storage):
        raise WeightsError(f"a tensor lies in {quoted(storage)}: it must lie in a storage")
    (offset,) = check_numbers("offset of a tensor", (offset,))
    shape, strides = check_numbers("shape of a tensor", shape), check_numbers("strides of a tensor", strides)
    if len(shape) != len(strides):
        raise WeightsError(f"a tensor of shape {shape} has strides {strides}: they must be of equal length")
    tensor = Tensor(storage, element or storage.element, offset, shape, strides)
    extent = storage.view[1] if storage.view else storage.numel
    held = extent * item_size(storage.element) // item_size(tensor.element)
    end = offset + 1 + sum((n - 1) * s for n, s in zip(shape, strides)) if tensor.count else offset
    if end > held:
        raise WeightsError(f"a tensor of shape {shape}, strides {strides} and offset {offset} ends at element {end} "
                           f"of storage {quoted(storage.key)}, which has {held}")
    return tensor


@dataclass
class Materialiser:
    """Makes arrays of tensors; `read(storage)` gives a storage's bytes, `budget` bounds the bytes of all arrays."""

    read: Callable[[Storage], memoryview]
    byte_order: str  # "<" or ">"
    budget: int  # bytes

    def __call__(self, tensor: Tensor) -> np.ndarray:
        """Return a new, contiguous array in the machine's byte order; bfloat16 becomes float32, which holds it all."""
        wide = 4 if tensor.element == "bfloat16" else item_size(tensor.element)
        self.budget -= tensor.count * wide
        if self.budget < 0:
            raise WeightsError(f"a tensor of shape {tensor.shape} and strides {tensor.strides}, with those before it, "
                               "would unpack to many times the size of the file: it is broken or hostile")
        raw = self.read(tensor.storage)
        dtype = np.dtype(self.byte_order + ELEMENTS[tensor.element])
        if not tensor.count:
            return np.empty(tensor.shape, "f4" if tensor.element == "bfloat16" else dtype.newbyteorder("="))
        first = tensor.offset + (tensor.storage.view[0] if tensor.storage.view else 0)
        steps = tuple(stride * dtype.itemsize for stride in tensor.strides)
        view = np.ndarray(tensor.shape, dtype, raw, first * dtype.itemsize, steps)
        array = view.astype(dtype.newbyteorder("="), order="C")
        return widen_bfloat16(array) if tensor.element == "bfloat16" else array


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """uint16 bit patterns of bfloat16 -> float32 of the same values: bfloat16 is float32's upper half."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
