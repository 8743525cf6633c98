"""Recipes as files: what is packaged, round trips, and broken files."""
import re
from pathlib import Path

import pytest

from npefficient.errors import ArgumentError
from npefficient.training.recipe_files import MOST, PACKAGED, PLACE, read_recipe, recipe_text
from npefficient.training.recipes import Recipe, changed

RECIPES = {
    "default": Recipe(),
    "values": Recipe(epochs=7, opt="adamw", opt_eps=1e-7, lr=1 / 3, warmup_epochs=0, clip_grad=5.0, model_ema=True,
                     scale=(1e-5, 2 / 3), aa="rand-m9-mstd0.5", freeze="conv_stem,blocks.0", freeze_bn=True),
    **{name: read_recipe(name) for name in PACKAGED}}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_is_read_as_it_was_written(recipe, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(recipe_text(recipe))
    assert read_recipe(path) == read_recipe(str(path)) == recipe


def test_every_packaged_file_is_a_packaged_recipe():
    assert {path.name for path in PLACE.iterdir()} == {f"{name}.txt" for name in PACKAGED}


def test_the_packaged_recipe_of_timm_is_the_command_line_that_it_quotes():
    comment = " ".join(line[1:].strip() for line in (PLACE / "efficientnet.txt").read_text().splitlines()
                       if line.startswith("#"))
    command = re.search(r"distributed_train\.sh (\d) (.*) Its two processes", comment)
    words = command[2].replace("-b ", "--batch-size ").replace("--model-ema ", "--model-ema true ")
    options = dict(re.findall(r"--([a-z-]+) (\S+)", words))
    assert options.pop("model") == "efficientnet_b0" and len(options) == 17
    expected = changed(Recipe(), {**options, "grad-accum-steps": command[1], "warmup-epochs": "3"})
    assert read_recipe("efficientnet") == expected


@pytest.mark.parametrize("data", [
    b"# comment\n\nlr = 0.5 # more\n  epochs=9\n", b"\xef\xbb\xbflr = 0.5\r\nepochs = 9\r\n",
    "lr = 0.5\nepochs = 9\n".encode("utf-16")], ids=["comments", "utf-8-sig", "utf-16"])
def test_ways_to_write_the_same(data, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(data)
    assert read_recipe(path) == Recipe(lr=0.5, epochs=9)


@pytest.mark.parametrize("data, text", [
    (b"lr = 0.1\nepochs 9\n", r"line 2, 'epochs 9': write an option as 'name = value', such as 'lr = 0.1'"),
    (b"lr =\n", "line 1, 'lr =': write an option as"),
    (b"= 3\n", "line 1, '= 3': write"),
    (b"[recipe]\n", r"line 1, '\[recipe\]': write"),
    (b"lr = 1\nlr = 1\n", "line 2: 'lr' is there twice; leave one of them out"),
    (b"learning-rate = 1\n", "'learning-rate' is no option of a recipe"),
    (b"weight_decay = 1\n", r"'weight_decay' is no option of a recipe \(did you mean 'weight-decay'\?\)"),
    (b"lr = fast\n", "lr 'fast': it must be a number above 0 and at most 1000, or none"),
    (b"lr = \x1b[31m\n", r"lr '\\x1b\[31m': it must be"),
    (b"epochs = 3\n", "warmup-epochs 5 of 3 epochs"),
    (b"x" * 5000, r"line 1, 'xxx.*\(5000 long\): write"),
    (b"\xff\xfa\n", "can't be read as text in UTF-8"),
    (b"#" * (MOST + 1), "it has more than 65,536 bytes; write one option on each line")])
def test_a_broken_file_is_refused(data, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a long path would be cut in the message
    Path("mine.txt").write_bytes(data)
    with pytest.raises(ArgumentError, match=f"^recipe 'mine.txt': .*{text}"):
        read_recipe("mine.txt")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"recipe 'efficientne': it is neither a file nor a packaged recipe "
                                            r"\(did you mean 'efficientnet'\?\); those are efficientnet, few-photos, "):
        read_recipe("efficientne")
    for missing in (tmp_path / "none.txt", "a\0b", "x" * 5000):
        with pytest.raises(ArgumentError, match="recipe .*: it is neither a file nor"):
            read_recipe(missing)
    with pytest.raises(ArgumentError, match="recipe '.*': it can't be read"):
        read_recipe(tmp_path)
    with pytest.raises(ArgumentError, match="recipe 3|recipe an? .*: it must be the path of a file"):
        read_recipe(3)
