"""The kinds of values that the options of a recipe have: what each reads from text, accepts and writes."""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.checks import is_whole
from ..common.text import shown
from ..errors import ArgumentError

NONE = "none"


class Kind:
    """A kind of value; `read` returns what it can't read as it is, for `check` to refuse."""

    def rule(self) -> str:
        """What a value must be, after "it must be"."""
        raise NotImplementedError

    def read(self, text: str) -> Any:
        return text

    def write(self, value: Any) -> str:
        """Text that `read` reads as the same value."""
        return str(value)

    def accepts(self, value: Any) -> bool:
        raise NotImplementedError

    def check(self, name: str, value: Any) -> Any:
        """The value, in the type that an option of this kind has; raises ArgumentError where it breaks the rule."""
        if not self.accepts(value):
            raise ArgumentError(f"{name} {shown(value)}: it must be {self.rule()}")
        return value


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number from `least` to `most`."""

    least: int
    most: int

    def rule(self) -> str:
        return f"a whole number from {self.least:,} to {self.most:,}"

    def read(self, text: str) -> int | str:
        try:
            return int(text)
        except ValueError:
            return text

    def accepts(self, value: Any) -> bool:
        return is_whole(value) and self.least <= value <= self.most

    def check(self, name: str, value: Any) -> int:
        return int(super().check(name, value))


@dataclass(frozen=True)
class Number(Kind):
    """A number from `least` to `most`, or between them where an end is open."""

    least: float
    most: float
    open_least: bool = False
    open_most: bool = False

    def rule(self) -> str:
        return (f"a number {'above' if self.open_least else 'of at least'} {self.least:g} and "
                f"{'below' if self.open_most else 'at most'} {self.most:g}")

    def read(self, text: str) -> float | str:
        try:
            return float(text)
        except ValueError:
            return text

    def accepts(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            return False
        if not self.least <= value <= self.most:
            return False
        return not (self.open_least and value == self.least or self.open_most and value == self.most)

    def check(self, name: str, value: Any) -> float:
        return float(super().check(name, value))


@dataclass(frozen=True)
class Range(Kind):
    """Two numbers, the lower one first; on the command line and in a file with a space between them."""

    ends: Number

    def rule(self) -> str:
        return f"two numbers, the lower one first, each {self.ends.rule()}"

    def read(self, text: str) -> tuple[float | str, ...]:
        return tuple(self.ends.read(part) for part in text.split())

    def write(self, value: Any) -> str:
        return " ".join(map(self.ends.write, value))

    def accepts(self, value: Any) -> bool:
        return (isinstance(value, (tuple, list)) and len(value) == 2 and all(map(self.ends.accepts, value))
                and value[0] <= value[1])

    def check(self, name: str, value: Any) -> tuple[float, float]:
        low, high = super().check(name, value)
        return float(low), float(high)


@dataclass(frozen=True)
class Flag(Kind):
    """True or False."""

    def rule(self) -> str:
        return "true or false"

    def read(self, text: str) -> bool | str:
        return {"true": True, "false": False}.get(text, text)

    def write(self, value: Any) -> str:
        return str(value).lower()

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Word(Kind):
    """One of a few words."""

    words: tuple[str, ...]

    def rule(self) -> str:
        return f"one of {', '.join(self.words)}"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words


@dataclass(frozen=True)
class Text(Kind):
    """Text that `parse` can read; it raises ArgumentError for any other."""

    words: str  # the rule
    parse: Callable[[str], object]

    def rule(self) -> str:
        return self.words

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str)

    def check(self, name: str, value: Any) -> str:
        self.parse(super().check(name, value))
        return str(value)


@dataclass(frozen=True)
class OrNone(Kind):
    """A value of another kind, or None."""

    kind: Kind

    def rule(self) -> str:
        return f"{self.kind.rule()}, or {NONE}"

    def read(self, text: str) -> Any:
        return None if text == NONE else self.kind.read(text)

    def write(self, value: Any) -> str:
        return NONE if value is None else self.kind.write(value)

    def accepts(self, value: Any) -> bool:
        return value is None or self.kind.accepts(value)

    def check(self, name: str, value: Any) -> Any:
        checked = super().check(name, value)
        return None if checked is None else self.kind.check(name, checked)
