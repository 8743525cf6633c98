"""What a training run refuses before it begins, and photos that it can't read."""
import contextlib
import errno

import numpy as np
import pytest
import training_runs
from training_runs import photos, train

import npefficient
from npefficient.errors import ArgumentError


@pytest.fixture
def folder(tmp_path):
    photos(tmp_path)
    return tmp_path


@pytest.mark.parametrize("changes, message", [
    (dict(epoch=3), "'epoch' is no argument of train or option of a recipe .did you mean 'epochs'"),
    (dict(batch_size=40, grad_accum_steps=1), "batch-size 40: there are 27 photos to train on"),
    (dict(batch_size=1, mixup=0.0, cutmix=0.0), "batch-size 1 for pictures of 32 x 32 pixels"),
    (dict(weights="nothing", freeze="3"), "freeze '3' and freeze-bn false with random weights: what is not trained"),
    (dict(weights="nothing", freeze_bn=True), "freeze '0' and freeze-bn true .*; use --freeze 0 --no-freeze-bn"),
    (dict(say=None), "say None: it must be a function that is called with a text"),
    (dict(recipe="finetun"), "neither a file nor a packaged recipe .did you mean 'finetune'"),
    (dict(model="lite1"), "model 'lite1' from 'seed 0', which is tf_efficientnet_lite0"),
    (dict(model="lite9"), "unknown model 'lite9'"), (dict(val_split=2), "val_split 2"),
    (dict(val_dir="none"), "'none'"), (dict(val_dir=""), "folder '': it is empty"),
    (dict(name="photos/red/m.h5"), "photos/red/m.h5': it is in a folder of photos of this run"),
    (dict(weights=5), "weight file 5: it must be the path"), (dict(num_threads=0), "num_threads 0"),
    (dict(name="m.pth"), "m.pth': its name must end in .h5"),
    (dict(name="none/m.h5"), "its directory does not exist"),
], ids=lambda value: str(value)[:40] if isinstance(value, dict) else "")
def test_refused(folder, changes, message):
    with pytest.raises(ArgumentError, match=message):
        train(folder, **changes)
    assert [path.name for path in folder.iterdir()] == ["photos"]


def test_photos_that_can_not_be_read_are_named_and_counted(folder):
    (folder / "photos" / "red" / "05.png").write_text("no picture")
    broken = folder / "photos" / "blue" / "00.png"
    broken.unlink()
    with contextlib.suppress(OSError):  # Windows may not allow it
        broken.symlink_to(folder / "nowhere.png")
    said = []
    result = train(folder, epochs=2, say=said.append)
    bad = {path.name: why for path, why in result.bad}
    assert "not an image" in bad.pop("05.png") and all("00.png': no such file" in why for why in bad.values())
    assert len(bad) == broken.is_symlink() and len(said) == len(bad) + 1
    for path in (folder / "photos").glob("*/*.png"):
        path.write_text("no picture")
    training_runs.save_classes(folder / "new", green=1)
    with pytest.raises(npefficient.ImageError, match="20 photos in a row can't be read"):
        train(folder, val_dir=folder / "new", force=True)


def test_photos_to_validate_on_are_tried_before_the_first_epoch(folder):
    training_runs.save_classes(folder / "new", green=30)
    paths = sorted((folder / "new" / "green").iterdir())
    for path in paths[:19]:
        path.write_text("no picture")
    assert train(folder, val_dir=folder / "new", epochs=1, warmup_epochs=0).best.val_photos == 11
    paths[19].write_text("no picture")
    with pytest.raises(ArgumentError, match="none of the first 20 photos to validate on can be read: .*19.png'"):
        train(folder, "other.h5", val_dir=folder / "new")
    assert not (folder / "other.csv").exists()


def test_a_run_that_fails_before_its_first_state_leaves_nothing(folder, monkeypatch):
    def fail(*arguments, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", fail)
        with pytest.raises(OSError, match="No space left on device"):
            train(folder)
    assert [path.name for path in folder.iterdir()] == ["photos"]
    train(folder, epochs=1, warmup_epochs=0)


def test_a_name_too_long_for_the_state_leaves_nothing(folder):
    with pytest.raises(OSError, match="File name too long"):
        train(folder, "n" * 243 + ".h5")
    assert [path.name for path in folder.iterdir()] == ["photos"]


def test_an_output_among_the_photos_to_validate_on(folder):
    training_runs.save_classes(folder / "new", red=2, green=2)
    with pytest.raises(ArgumentError, match="new/red/m.h5': it is in a folder of photos .* outside '.*new'"):
        train(folder, "new/red/m.h5", val_dir=folder / "new")
