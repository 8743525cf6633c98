"""notebooks/train_beside_timm.py: its pictures, and its runs on a few of them."""
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from imagenet import needs_imagenet
from live import needs_timm
from PIL import Image
from programs import program

script = program("train_beside_timm")


def write_few(folder):
    """Two classes that differ in brightness, eight photos to train on and four held out."""
    for part, each in (("train", 4), ("held_out", 2)):
        for name, value in (("dark", 20), ("bright", 200)):
            (folder / part / name).mkdir(parents=True)
            for number in range(each):
                noise = np.random.default_rng([value, number, each]).integers(0, 50, (48, 48), np.uint8)
                Image.fromarray(noise + np.uint8(value)).save(folder / part / name / f"{number}.png")


@needs_timm
@needs_imagenet
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's dataset leaves them to the collector
def test_a_line_for_each_seed(monkeypatch, capsys):
    options = script.TEXTURES | {"epochs": 1, "batch_size": 4, "warmup_epochs": 0}
    monkeypatch.setitem(script.TASKS, "textures", (write_few, options))
    script.main(["textures", "--seeds", "3", "5"])
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "right answers to 4 held-out pictures" and len(lines) == 2
    for seed, line in zip((3, 5), lines):
        found = re.fullmatch(r"seed (\d): classifier alone (.*)%, npefficient (.*)%, timm (.*)%", line)
        assert int(found[1]) == seed and {float(share) for share in found.groups()[1:]} <= {0, 25, 50, 75, 100}


@pytest.mark.parametrize("task, held_out", [("textures", 200), ("textures-validation", 100)])
def test_crops_to_train_on_and_held_out_are_from_different_strips(monkeypatch, tmp_path, task, held_out):
    (tmp_path / "data").mkdir()
    strips = np.repeat(np.tile(np.uint8([0, 100, 200]), 2), script.STRIP)[None]
    for name in script.SURFACES:
        Image.fromarray(np.repeat(strips, 70, axis=0)).save(tmp_path / "data" / f"{name}.png")
    monkeypatch.setitem(sys.modules, "skimage", SimpleNamespace(__file__=str(tmp_path / "__init__.py")))
    script.TASKS[task][0](tmp_path / "textures")
    for part, value in (("train", 0), ("held_out", held_out)):
        crops = list((tmp_path / "textures" / part).rglob("*.png"))
        assert len(crops) == len(script.SURFACES) * script.EACH
        for crop in crops:
            pixels = np.asarray(Image.open(crop))
            assert pixels.shape == (script.CROP, script.CROP) and (pixels == value).all()


def test_digits_are_those_of_the_embedded_model(tmp_path):
    script.write_digits(tmp_path)
    assert [len(list((tmp_path / part).rglob("*.png"))) for part in ("train", "held_out")] == [1347, 450]


def test_an_unknown_task_is_refused(capsys):
    with pytest.raises(SystemExit):
        script.main(["letters"])
    assert "invalid choice: 'letters'" in capsys.readouterr().err
