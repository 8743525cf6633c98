"""What the compiler made of a rung: the innermost loop of its machine code, read as text.

The processor decides which instructions there are, and the compiler which of them it uses. So nobody can say beforehand
how wide the vectors of a loop in plain Numba are: one has to look. x86-64 (in AT&T's syntax, as LLVM writes it) and
ARM64 can be read.
"""
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

_LABEL = re.compile(r"^(?P<name>[\w.$\"@]+):")
_X86_JUMP, _ARM_JUMP = re.compile(r"^j\w+\s+(\S+)$"), re.compile(r"^(?:b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+.*,)\s*(\S+)$")
_X86_LANES = {"zmm": 16, "ymm": 8, "xmm": 4}
_X86_FUSED = re.compile(r"^vfn?m(?:add|sub)\d{3}(?P<kind>[ps])s$")
_X86_PRODUCT = re.compile(r"^v?mul(?P<kind>[ps])s$")
_ARM_PRODUCTS = {"fmla": True, "fmadd": True, "fmul": False}  # whether it is fused
_ARM_LANES = {".4s": 4, ".2s": 2}
_ARM_LOADS = {"ldr": 1, "ldur": 1, "ld1": 1, "ld1r": 1, "ldp": 2}
_ARM_STORES = {"str": 1, "stur": 1, "st1": 1, "stp": 2}


@dataclass(frozen=True)
class Instruction:
    """What is counted of one instruction."""

    multiplies: int = 0  # products, one for each lane
    fused: bool = False
    loads: int = 0
    stores: int = 0


@dataclass(frozen=True)
class Loop:
    """The innermost loop of a function, in instructions per round of it."""

    lanes: int  # products that one instruction computes
    multiplications: int
    fused: bool  # they are FMAs
    loads: int  # of floats
    stores: int
    lines: tuple[str, ...]  # all of its instructions

    @property
    def memory(self) -> float:
        """Loads and stores for each multiplication."""
        return (self.loads + self.stores) / self.multiplications


def loop_of(assembly: str, kernel: str | None = None) -> Loop | None:
    """The innermost loop with the most products in a function's machine code, or None where there is none to read.

    assembly: what `inspect_asm()` of a compiled function returns for one signature; kernel: only this function in it
    """
    found = []
    for lines in _functions(assembly, kernel):
        found += [loop for loop in map(_counted, _innermost(lines)) if loop]
    return max(found, key=lambda loop: loop.lanes * loop.multiplications, default=None)


def _functions(assembly: str, kernel: str | None) -> Iterable[list[str]]:
    """The lines of each function, from its label to the next function's; those of `kernel` alone if it is given."""
    current, name = [], None
    for line in map(str.strip, assembly.splitlines()):
        label = _LABEL.match(line)
        if label and not label["name"].startswith((".L", "L")):
            if kernel in (None, name):
                yield current
            current, name = [], label["name"].strip('"').removeprefix("_" if sys.platform == "darwin" else "")
        elif line and (label or not line.startswith((".", "#", "//", ";"))):
            current.append(re.split(r"\s+(?:#|//|;)", line)[0].strip())
    if kernel in (None, name):
        yield current


def _innermost(lines: list[str]) -> Iterable[list[str]]:
    """The instructions of each loop without another one inside: from a label to a jump back to it."""
    places, loops = {}, []
    for i, line in enumerate(lines):
        if label := _LABEL.match(line):
            places[label["name"]] = i
        else:
            jump = _X86_JUMP.match(line) or _ARM_JUMP.match(line)
            if jump and jump[1] in places:
                loops.append((places[jump[1]], i))
    for start, end in loops:
        if not any(start <= s and e <= end and (s, e) != (start, end) for s, e in loops):
            yield [line for line in lines[start : end + 1] if not _LABEL.match(line)]


def _counted(lines: list[str]) -> Loop | None:
    """The loop that these lines are, if it multiplies floats."""
    read = [_x86(line) if "%" in line else _arm(line) for line in lines]
    work = [one for one in read if one.multiplies]
    if not work:
        return None
    lanes = max(one.multiplies for one in work)
    return Loop(lanes, sum(one.multiplies == lanes for one in work), all(one.fused for one in work),
                sum(one.loads for one in read), sum(one.stores for one in read), tuple(lines))


def _x86(line: str) -> Instruction:
    name, _, operands = line.replace("\t", " ").partition(" ")
    width = next((lanes for register, lanes in _X86_LANES.items() if register in operands), 0)
    memory = width > 0 and "(" in operands
    store = memory and "mov" in name and operands.endswith(")")
    fused = _X86_FUSED.match(name)
    product = fused or _X86_PRODUCT.match(name)
    return Instruction(0 if not product else 1 if product["kind"] == "s" else width, fused is not None,
                       int(memory and not store), int(store))


def _arm(line: str) -> Instruction:
    name, _, operands = line.replace("\t", " ").partition(" ")
    target = operands.strip().split(",")[0]
    if not re.match(r"\{?\s*[qvsd]\d", target):
        return Instruction()
    lanes = next((lanes for kind, lanes in _ARM_LANES.items() if kind in target), 1)
    return Instruction(lanes if name in _ARM_PRODUCTS else 0, _ARM_PRODUCTS.get(name, False), _ARM_LOADS.get(name, 0),
                       _ARM_STORES.get(name, 0))
