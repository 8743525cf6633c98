"""Types of option values for argparse: each takes the text of an argument, and explains what it refuses."""
import functools
import math


def option(read):
    """A `type=` of argparse that returns `read(text)`; an ArgumentError becomes a usage error."""
    @functools.wraps(read)
    def convert(text: str):
        from argparse import ArgumentTypeError

        from ..errors import ArgumentError

        try:
            return read(text)
        except ArgumentError as error:
            raise ArgumentTypeError(str(error)) from None

    return convert


def ending(*suffixes: str):
    """A `type=` of argparse: the name of a file to write, with one of these suffixes."""
    @option
    def convert(text: str) -> str:
        from ..common.paths import named

        named(text, suffixes)
        return text

    return convert


@option
def weight_output(text: str) -> str:
    """The name of a weight file to write."""
    from ..weights.weight_file import weight_target

    weight_target(text)
    return text


def number(kind, rule: str, holds):
    """A `type=` of argparse: a number for which `holds(number)` is true; `rule` states the condition in words."""
    def convert(text: str):
        from argparse import ArgumentTypeError

        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not holds(value):
            raise ArgumentTypeError(f"{text!r}: it must be {rule}")
        return value

    return convert


whole = number(int, "a whole number of at least 1", lambda value: value >= 1)
share = number(float, "a share above 0 and below 1, such as 0.2", lambda value: 0 < value < 1)
seconds = number(float, "a number of seconds above 0 and below an hour", lambda value: 0 < value < 3600)
_pictures = number(int, "a number of pictures from 1 to 65,536", lambda value: 1 <= value <= 1 << 16)


def wholes(text: str) -> list[int]:
    """"1,2" -> [1, 2]."""
    return [whole(word) for word in text.split(",")]


def batches(text: str) -> list[int]:
    """"1,16" -> [1, 16]."""
    return [_pictures(word) for word in text.split(",")]


@option
def model_name(text: str) -> str:
    """Any name of a variant -> its short name."""
    from ..network.variants import VARIANTS, canonical_name

    return VARIANTS[canonical_name(text)].short_name


@option
def model_or_digits(text: str) -> str:
    """`model_name`, or the name of the embedded model."""
    from ..demo import NAME
    from ..network.variants import VARIANTS, canonical_name

    return text if text == NAME else VARIANTS[canonical_name(text, NAME)].short_name


@option
def weights_file(text: str) -> str:
    """The name of a file with weights; a model's name, which --model takes, is refused unless there is such a file."""
    from pathlib import Path

    from ..demo import NAME
    from ..errors import ArgumentError
    from ..network.variants import is_model_pretrained

    if (text == NAME or is_model_pretrained(text)) and not Path(text).exists():
        raise ArgumentError(f"{text!r}: there is no such file; --model {text} takes the model of this name")
    return text


def model_names(text: str) -> list[str]:
    """"lite0,lite4" or "all" -> the variants' short names."""
    from ..network.variants import VARIANTS

    return [model_name(name) for name in (VARIANTS if text == "all" else text.split(","))]


@option
def size(text: str) -> tuple[int, int]:
    """"224" or "256x320" -> (rows, columns)."""
    from ..errors import ArgumentError

    words = text.lower().split("x")
    if len(words) > 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ArgumentError(f"{text!r}: give pixels as one number, such as 224, or as rows x columns, such as 256x320")
    return int(words[0]), int(words[-1])
