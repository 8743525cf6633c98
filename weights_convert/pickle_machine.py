"""A pickle reader that can only build plain data.

A pickle is a program for a small stack machine. Python's own `pickle` runs any function that the program names, makes
a table of 1 GB for an eight-byte opcode (LONG_BINPUT) and hashes nested tuples for as long as the file likes. This
machine knows only the opcodes that `torch.save` writes, only the globals of a closed table that its caller hands in,
and stops at budgets for steps, memory and nesting. What it builds is None, bool, int, float, str, bytes, list, dict,
tuple, and whatever the caller's table makes; nothing is ever imported or called by name.

Here are its parts: reading, the stack, the budgets; what each opcode does is in `pickle_opcodes`.
Source for the opcodes: Python's `pickletools`; for the choice of them: torch/_weights_only_unpickler.py.
"""
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from npefficient.common.text import quoted
from npefficient.errors import WeightsError

from .pickle_values import Budget, Global

MAX_NAME = 256  # bytes of a module's or a global's name, and of a number in digits


@dataclass
class PickleMachine:
    """The state of one run: where it reads in `data`, its stack and its memo; `pickle_opcodes.run` runs it."""

    data: bytes
    at: int
    end: int  # where it may read no further
    budget: Budget
    find_global: Callable[[str, str], Global]  # module, name -> Global; raises WeightsError
    persistent_load: Callable[[object], object] | None = None  # persistent id -> value; None where there is none
    stack: list = field(default_factory=list)
    marks: list = field(default_factory=list)  # heights of the stack
    memo: list = field(default_factory=list)

    def take(self, count: int) -> bytes:
        left = self.end - self.at
        if count > left:
            raise WeightsError(f"its pickle wants {count} bytes at byte {self.at}, but {left} are left: "
                               "the file is cut off or damaged")
        self.at += count
        return self.data[self.at - count : self.at]

    def take_number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def take_line(self) -> str:
        end = self.data.find(b"\n", self.at, min(self.at + MAX_NAME, self.end))
        if end < 0:
            raise WeightsError(f"the line at byte {self.at} of the file has no end within {MAX_NAME} bytes")
        line = self.take(end - self.at)
        self.at += 1
        return text(line)

    def push(self, value):
        self.budget.spend_memory(8)
        self.stack.append(value)

    def push_new(self, value):
        """Push a value that this step made."""
        self.budget.spend_memory(sys.getsizeof(value))
        self.push(value)

    def pop(self):
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise WeightsError(f"the pickle takes a value from an empty stack at byte {self.at - 1}")
        return self.stack.pop()

    def top(self):
        self.stack.append(self.pop())
        return self.stack[-1]

    def pop_to_mark(self) -> list:
        if not self.marks:
            raise WeightsError(f"the pickle closes a group that it never opened at byte {self.at - 1}")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values


def text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise WeightsError(f"the text {quoted(raw)} in its pickle is not UTF-8") from error
