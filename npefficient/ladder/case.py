"""The input and output of every rung of a ladder: one layer, or one block, on one picture.

    case = Case("pointwise", x, (Folded(weight, bias),))
    ready = rung.prepare(case)  # packing, layouts and memory for the result: not timed
    ready.call()  # the work
    out = ready.result()  # (Q, R, M), float32
"""
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..kernels.layout import FLOAT32
from ..network.quantization import QuantizedLayer

CONVS = {"depthwise": 1, "pointwise": 1, "block": 3}  # of each operator; a block's are expand, depthwise, project


@dataclass(frozen=True)
class Folded:
    """One convolution with its batch norm folded in; all float32."""

    weight: np.ndarray  # (M, C, K, K), depthwise (C, 1, K, K)
    bias: np.ndarray  # (M,)
    stride: int = 1
    relu6: bool = True


@dataclass(frozen=True)
class Case:
    """One operator on one picture; `residual` is added to the result of a pointwise convolution or a block."""

    unit = "FLOP"

    op: str  # one of CONVS
    x: np.ndarray  # (H, W, C), float32
    convs: tuple[Folded, ...]
    residual: np.ndarray | None = None  # (Q, R, M), float32

    def __post_init__(self):
        """Raise ArgumentError for a case that no rung can compute; rungs check nothing."""
        if self.op not in CONVS or len(self.convs) != CONVS[self.op]:
            raise ArgumentError(f"op {self.op!r} with {len(self.convs)} convolutions: it must be one of {CONVS}")
        arrays = [self.x, *([] if self.residual is None else [self.residual])]
        arrays += [array for conv in self.convs for array in (conv.weight, conv.bias)]
        for array in arrays:
            if array.dtype != np.float32 or 0 in array.shape:
                raise ArgumentError(f"an array {array.dtype} of shape {array.shape}: it must be float32 and not empty")
        shapes = [self.x.shape, *(shape for conv in self.convs for shape in (conv.weight.shape, conv.bias.shape))]
        if self.x.ndim != 3 or not self._fits():
            raise ArgumentError(f"{self.op} of shapes {shapes}: they do not fit; x is (H, W, C), weights are "
                                "(M, C, K, K), depthwise (C, 1, K, K) with K 3 or 5")
        if self.residual is not None and (self.residual.shape != self.out_shape or self.op == "depthwise"):
            raise ArgumentError(f"residual of shape {self.residual.shape} for a {self.op}: it must have the result's "
                                f"shape {self.out_shape}, and nothing is added to a depthwise convolution")

    def _fits(self) -> bool:
        channels = self.x.shape[-1]
        for conv, op in zip(self.convs, self._ops()):
            m, c, *kernel = conv.weight.shape
            right = (c, *kernel) == (channels, 1, 1) and conv.stride == 1 if op == "pointwise" else (
                m == channels and conv.relu6 and (c, *kernel) in ((1, 3, 3), (1, 5, 5)) and conv.stride in (1, 2))
            if not right or conv.bias.shape != (m,):
                return False
            channels = m
        return True

    def _ops(self) -> tuple[str, ...]:
        return ("pointwise", "depthwise", "pointwise") if self.op == "block" else (self.op,)

    @property
    def stride(self) -> int:
        return max(conv.stride for conv in self.convs)

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """(Q, R, M), 'SAME' padding."""
        h, w, _ = self.x.shape
        return -(-h // self.stride), -(-w // self.stride), len(self.convs[-1].bias)

    @property
    def flops(self) -> int:
        """Two for each product, including those with padding, as is usual."""
        sizes, count = [self.x.shape[:2], self.out_shape[:2]], len(self.convs)
        outs = [sizes[0], sizes[1], sizes[1]] if count == 3 else [sizes[1]]  # a block's first layer keeps the size
        return sum(2 * math.prod(size) * conv.weight.size for size, conv in zip(outs, self.convs, strict=True))

    @property
    def bytes(self) -> int:
        """The least to read and write: input, weights, output, and a residual that is not the input."""
        values = self.x.size + math.prod(self.out_shape) + sum(c.weight.size + c.bias.size for c in self.convs)
        return FLOAT32.item * (values + (0 if self.residual is None or self.residual is self.x else self.residual.size))

    def top(self, rows: int) -> "Case":
        """The same case on the first `rows` rows of the picture."""
        x = self.x[:rows]
        if self.residual is None or self.residual is self.x:
            return replace(self, x=x, residual=None if self.residual is None else x)
        return replace(self, x=x, residual=self.residual[: -(-rows // self.stride)])


@dataclass(frozen=True)
class QuantizedCase:
    """A 1x1 convolution in 8 bits on one picture; `residual` is added to the result."""

    op, unit = "pointwise-int8", "OP"

    x: np.ndarray  # (H, W, K), uint8
    layer: QuantizedLayer  # weight (M, K, 1, 1), int8; scale and bias (M,), float32
    scale: np.ndarray | None = None  # (H,), float32: that of each row, of which 0 is kept as 128; None: 1, and 0 is 0
    relu6: bool = True  # the result is uint8, else float32
    residual: np.ndarray | None = None  # (H, W, M), float32

    def __post_init__(self):
        """Raise ArgumentError for a case that no rung can compute; rungs check nothing."""
        layer, size, (m, k) = self.layer, self.x.shape[:2], self.layer.weight.shape[:2]
        expected = {"x": (self.x, np.uint8, (*size, k)), "the weight": (layer.weight, np.int8, (m, k, 1, 1)),
                    "the layer's scale": (layer.scale, np.float32, (m,)), "the bias": (layer.bias, np.float32, (m,)),
                    "scale": (self.scale, np.float32, size[:1]), "residual": (self.residual, np.float32, (*size, m))}
        for name, (array, kind, shape) in expected.items():
            if array is not None and (array.dtype != kind or array.shape != shape or 0 in shape):
                raise ArgumentError(f"{name} is {array.dtype} of shape {array.shape}: it must be {np.dtype(kind)} of "
                                    f"shape {shape}, and not empty")
        if self.relu6 and self.residual is not None:
            raise ArgumentError("a residual and relu6: nothing is added to integers")

    @property
    def kind(self):
        """The dtype of the result."""
        return np.uint8 if self.relu6 else np.float32

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """(H, W, M)"""
        return *self.x.shape[:2], len(self.layer.bias)

    @property
    def flops(self) -> int:
        """Operations on integers: two for each product."""
        return 2 * math.prod(self.x.shape[:2]) * self.layer.weight.size

    @property
    def bytes(self) -> int:
        """The least to read and write: input, weights, and output."""
        arrays = [self.x, *vars(self.layer).values(), self.scale, self.residual]
        written = math.prod(self.out_shape) * np.dtype(self.kind).itemsize
        return written + sum(array.nbytes for array in arrays if array is not None)

    def top(self, rows: int) -> "QuantizedCase":
        """The same case on the first `rows` rows of the picture."""
        return replace(self, **{name: array[:rows] for name in ("x", "scale", "residual")
                                if (array := getattr(self, name)) is not None})


@dataclass(frozen=True)
class Prepared:
    """A rung ready to run."""

    function: Callable
    arguments: tuple
    read: Callable[[], np.ndarray]
    holds: tuple = ()  # the arrays whose addresses are among the arguments

    def call(self) -> None:
        """Do all of the work; only this is timed."""
        self.function(*self.arguments)

    def result(self) -> np.ndarray:
        """A copy of the result of the last call, (Q, R, M), float32; or uint8, see `QuantizedCase`."""
        return self.read()


@dataclass(frozen=True)
class Cost:
    """What one multiply-add in the innermost loop of a rung takes of the core; a vector counts once."""

    lanes: int  # floats that an instruction computes; where the compiler chooses them, at most
    sums: int | None  # independent sums in flight; None: the sums are in memory, and any number is
    loads: float  # for each multiply-add
    stores: float = 0
    fused: bool = True  # one instruction; otherwise a multiplication and an addition, which alone is waited for
    kernel: str | None = None  # the name in the machine code of the function with this loop; None: the rung's own


@dataclass(frozen=True)
class Rung:
    """One way to compute an operator."""

    op: str
    name: str  # how, in words
    reason: str  # what the rung before it is limited by, and what this one does about it
    prepare: Callable[[Any], Prepared]  # of a Case, or of a QuantizedCase on the ladder in 8 bits
    lacking: str | None = None  # what this processor would need for it and does not have
    code: tuple[Callable, ...] = ()  # the functions to read, the innermost first
    cost: Cost | None = None  # where the speed can be predicted
