"""Checks of whole numbers: what is one, and what the message says of anything else."""
import re

import numpy as np
import pytest

from npefficient.common.checks import is_whole, whole
from npefficient.errors import ArgumentError


@pytest.mark.parametrize("value", [1, np.int64(1), np.uint8(1)], ids=["int", "int64", "uint8"])
def test_whole_returns_an_int(value):
    assert is_whole(value) and type(whole("n", value, 1, 1)) is int


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None, [1]], ids=str)
def test_what_is_not_whole(value):
    assert not is_whole(value)
    with pytest.raises(ArgumentError, match=r"^n .*: it must be a whole number of at least 1$"):
        whole("n", value, 1)


@pytest.mark.parametrize("value, text", [
    (0, "n 0: it must be a whole number of at least 1, or None"),
    (np.int8(-2), "n -2: it must be a whole number of at least 1, or None"),
    (5001, "n 5001: it must be a whole number of at most 5,000, or None"),
    (10**200, "n a whole number of 665 bits: it must be a whole number of at most 5,000, or None"),
], ids=["least", "numpy", "most", "long"])
def test_whole_says_which_bound_is_broken(value, text):
    with pytest.raises(ArgumentError, match=f"^{re.escape(text)}$"):
        whole("n", value, 1, 5000, more=", or None")
