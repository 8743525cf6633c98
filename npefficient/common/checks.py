"""Checks of users' arguments: a whole number, one of a few words, a path, an array of real numbers.

Each takes a value of any type, and returns it ready for use or raises ArgumentError.
"""
import numbers
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ..errors import ArgumentError
from .text import quoted


def is_whole(value: Any) -> TypeGuard[int]:
    """True for a whole number of Python's or NumPy's types, but not for a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def whole(what: str, value: Any, least: int, most: int | None = None, *, more: str = "") -> int:
    """A whole number from `least` to `most`; `more` ends the message where it is not one."""
    good = is_whole(value)
    if not good or value < least or most is not None and value > most:
        shown = quoted(value.item() if isinstance(value, np.generic) else value)
        limit = f"at most {most:,}" if good and value > least else f"at least {least}"
        raise ArgumentError(f"{what} {shown}: it must be a whole number of {limit}{more}")
    return int(value)


def word(what: str, value, words) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in words:
        *first, last = map(repr, words)
        rule = f"{first[0]} or {last}" if len(first) == 1 else f"one of {', '.join((*first, last))}"
        raise ArgumentError(f"{what} {quoted(value)}: it must be {rule}")
    return value


def path_of(what: str, value, of: str = "a file") -> Path:
    """A path, from text or a `pathlib.Path`; whether a file can have it shows when it is opened."""
    if isinstance(value, str) and not value:  # for a Path, that is the current folder
        raise ArgumentError(f"{what} '': it is empty; give the path of {of}")
    try:
        return Path(value)
    except TypeError:
        raise ArgumentError(f"{what} {quoted(value)}: it must be the path of {of}, text or a pathlib.Path") from None


def can_be_a_name(path: Path) -> bool:
    """False for a path with NUL, or with a character that can't be encoded, which no file has."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def is_list(value: Any) -> TypeGuard[Iterable]:
    """True for an iterable other than text."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) > 0


def plain_array(what: str, value: Any) -> np.ndarray:
    """A NumPy array as it is; subclasses that are more than their numbers, such as masked arrays, are refused."""
    if not isinstance(value, np.ndarray):
        raise ArgumentError(f"{what} of type {type(value).__name__}: it must be a NumPy array")
    if type(value) not in (np.ndarray, np.memmap):
        if isinstance(value, np.ma.MaskedArray):
            raise ArgumentError(f"{what} is a masked array, and no value can be left out: give array.filled(0), or "
                                "another value for the gaps")
        raise ArgumentError(f"{what} of type {type(value).__name__}: it must be a plain NumPy array; give "
                            "np.asarray(array)")
    return value


def real_array(what: str, value: Any, kinds: str = "fiu") -> np.ndarray:
    """A plain array of real numbers: floats and whole numbers, no bool, complex, text, object or record.

    kinds: the dtypes allowed, by NumPy's letters
    """
    if plain_array(what, value).dtype.kind not in kinds:
        raise ArgumentError(f"{what} of dtype {value.dtype}: it must be an array of real numbers")
    return value
