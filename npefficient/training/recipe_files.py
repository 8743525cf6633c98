"""Recipes as text files: one option on each line, with the names that they have on the command line.

    # timm's schedule, but shorter
    epochs = 30
    scale = 0.5 1.0
    clip-grad = none

What comes after a # is a comment. Options that are not in the file have the defaults of timm's `train.py`.
"""
import os
from pathlib import Path

from ..common.checks import path_of
from ..common.paths import StrPath
from ..common.text import meant, quoted
from ..common.text_files import read_lines
from ..errors import ArgumentError
from .recipes import OPTIONS, Recipe, changed

MOST = 2**16  # bytes of a file
PACKAGED = ("efficientnet", "few-photos", "finetune")
PLACE = Path(__file__).parents[1] / "data" / "recipes"


def read_recipe(recipe: StrPath) -> Recipe:
    """Read one of PACKAGED by its name, or a file by its path.

    Raises ArgumentError for a file that can't be read, is too long or not text, for a line that is not `name = value`,
    and for an option that is unknown, given twice or breaks its rule.
    """
    path = PLACE / f"{recipe}.txt" if recipe in PACKAGED else path_of("recipe", recipe)
    if not os.path.exists(path):
        raise ArgumentError(f"recipe {quoted(str(path))}: it is neither a file nor a packaged recipe"
                            f"{meant(str(path), PACKAGED)}; those are {', '.join(PACKAGED)}")
    lines = read_lines(path, "recipe", MOST, "write one option on each line")
    try:
        return changed(Recipe(), _options(lines))
    except ArgumentError as problem:
        raise ArgumentError(f"recipe {quoted(str(path))}: {problem}") from None


def _options(lines: list[str]) -> dict[str, str]:
    """Name -> text of the value."""
    texts: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        line = line.partition("#")[0].strip()
        name, equals, value = (part.strip() for part in line.partition("="))
        if line and not (name and equals and value):
            raise ArgumentError(f"line {number}, {quoted(line)}: write an option as 'name = value', such as 'lr = 0.1'")
        if name in texts:
            raise ArgumentError(f"line {number}: {quoted(name)} is there twice; leave one of them out")
        if line:
            texts[name] = value
    return texts


def recipe_text(recipe: Recipe) -> str:
    """All options of a recipe, as a file that `read_recipe` reads as the same recipe."""
    return "".join(f"{name} = {option.kind.write(getattr(recipe, option.field))}\n" for name, option in OPTIONS.items())
