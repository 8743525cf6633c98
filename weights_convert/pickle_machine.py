"""A pickle reader that can only build plain data.

A pickle is a program for a small stack machine. Python's own `pickle` calls any function that the program names,
allocates a 1 GB table for an eight-byte opcode (LONG_BINPUT) and hashes nested tuples without limit. This machine
accepts only the opcodes that `torch.save` writes and only the globals in a closed table from its caller, and stops at
limits for steps, memory and nesting. It builds None, bool, int, float, str, bytes, list, dict, tuple, and what the
caller's table makes; it never imports or calls anything by name.

This file has the machine's state: reading, the stack and the budgets. `pickle_opcodes` has the opcodes.
Source of the opcodes: Python's `pickletools`; of the selection: torch/_weights_only_unpickler.py.
"""
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from npefficient.common.text import quoted
from npefficient.errors import WeightsError

from .pickle_values import Budget, Global

MAX_NAME = 256  # bytes of the name of a module or a global, and of a number written as digits


@dataclass
class PickleMachine:
    """The state of one run: the position in `data`, the stack and the memo; `pickle_opcodes.run` runs it."""

    data: bytes
    at: int
    end: int  # end of the bytes that it may read
    budget: Budget
    find_global: Callable[[str, str], Global]  # module, name -> Global; raises WeightsError
    persistent_load: Callable[[object], object] | None = None  # persistent id -> value; None if none are allowed
    stack: list = field(default_factory=list)
    marks: list = field(default_factory=list)  # stack heights at the open MARKs
    memo: list = field(default_factory=list)

    def take(self, count: int) -> bytes:
        left = self.end - self.at
        if count > left:
            raise WeightsError(f"its pickle needs {count} bytes at byte {self.at}, but only {left} are left: "
                               "the file is truncated or damaged")
        self.at += count
        return self.data[self.at - count : self.at]

    def take_number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def take_line(self) -> str:
        end = self.data.find(b"\n", self.at, min(self.at + MAX_NAME, self.end))
        if end < 0:
            raise WeightsError(f"the line at byte {self.at} of the file is longer than {MAX_NAME} bytes")
        line = self.take(end - self.at)
        self.at += 1
        return text(line)

    def push(self, value):
        self.budget.spend_memory(8)
        self.stack.append(value)

    def push_new(self, value):
        """Push a value that this step has made."""
        self.budget.spend_memory(sys.getsizeof(value))
        self.push(value)

    def pop(self):
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise WeightsError(f"the pickle pops from an empty stack at byte {self.at - 1}")
        return self.stack.pop()

    def top(self):
        self.stack.append(self.pop())
        return self.stack[-1]

    def pop_to_mark(self) -> list:
        if not self.marks:
            raise WeightsError(f"the pickle at byte {self.at - 1} closes a group that it never opened")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values


def text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise WeightsError(f"the text {quoted(raw)} in its pickle is not UTF-8") from error
