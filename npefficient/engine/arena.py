"""The arena of a plan: which activations live when, and where each lies, so that memory is used again."""
from dataclasses import dataclass


@dataclass
class Buffer:
    """One activation: its size and block distance in bytes, its first and last step, and its offset in the arena."""

    size: int
    plane: int
    item: int  # bytes of a value
    born: int
    dies: int
    scale: "Buffer | None" = None  # of integers with a scale for each row
    offset: int = -1


def place(buffers: list[Buffer]) -> int:
    """Give every buffer an offset such that no two that live at the same time overlap; return the arena's size.

    Greedy by size, which is the usual heuristic for this: the largest first, each at the lowest offset that is free
    during its lifetime. `other`s are visited by ascending offset, so `offset` only moves up past those in the way.
    """
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -b.size):
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.born <= buffer.dies and buffer.born <= other.dies and other.offset < offset + buffer.size:
                offset = max(offset, other.offset + other.size)
        buffer.offset = offset
        placed.append(buffer)
    return max(buffer.offset + buffer.size for buffer in buffers)
