"""Names of files that are written: the same rule whichever function or command writes them."""
import os

import pytest
from checkpoints import network, save
from PIL import Image
from small import small_model, small_weights

import npefficient
from npefficient.commands import main
from npefficient.errors import ArgumentError
from npefficient.weights.weight_file import write_weights

RULE = "its name must end in .h5 or .hdf5, as weight files do; npefficient.export .* makes .safetensors"


@pytest.mark.parametrize("name", ["foo.bin", "foo", "foo.safetensors", "foo.pth", ".h5"])
def test_weight_files_end_in_h5(name, tmp_path):
    (tmp_path / "tf_efficientnet_lite0.pth").write_bytes(save(network(), "zip"))
    (tmp_path / "photos").mkdir()
    target = tmp_path / name
    for write in (lambda: npefficient.convert(tmp_path / "tf_efficientnet_lite0.pth", target),
                  lambda: npefficient.finetune(tmp_path / "photos", target),
                  lambda: small_model().save(target), lambda: write_weights(target, small_weights())):
        with pytest.raises(ArgumentError, match=f"{name}': {RULE}"):
            write()
    assert not target.exists()


@pytest.mark.parametrize("name", ["a.h5", "a.HDF5"])
def test_weight_files_end_in_h5_or_hdf5(name, tmp_path):
    small_model().save(tmp_path / name)
    assert npefficient.load_weights(tmp_path / name).architecture.num_classes == 5


@pytest.mark.parametrize("name", ["hub2", "hub2.bin", "hub2.h5"])
def test_exports_end_in_safetensors_or_are_folders(name, tmp_path, capsys):
    small_model().save(tmp_path / "a.h5")
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(tmp_path / "a.h5"), str(tmp_path / name)])
    assert f"{name}': its name must end in .safetensors, as timm expects; '{tmp_path / name}/' makes a" \
        in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    assert main(["export", str(tmp_path / "a.h5"), f"{tmp_path / name}/"]) == 0
    assert (tmp_path / name / "model.safetensors").exists() and (tmp_path / name / "config.json").exists()


@pytest.mark.parametrize("arguments", [
    ("classify", "photo.png", "--weights", "a.h5", "--output", "./a.h5", "--force"),
    ("compare", "a.h5", "a.h5", "--json", "link.h5"),
    ("compare", "a.h5", "a.h5", "photo.png", "--json", "photo.png"),
    ("explain", "photo.png", "--weights", "a.h5", "--png", "photo.png", "--force"),
    ("finetune", ".", "--weights", "a.h5", "-o", "a.h5", "--force"),
    ("profile", "photo.png", "--weights", "a.h5", "--trace", "photo.png"),
    ("validate", ".", "--weights", "a.h5", "--labels-file", "labels.csv", "--csv", "labels.csv", "--force"),
], ids=lambda arguments: arguments[0])
def test_what_a_command_reads_is_no_target(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small_model().save("a.h5")
    os.link("a.h5", "link.h5")
    Image.new("RGB", (40, 30)).save("photo.png")
    (tmp_path / "labels.csv").write_text("photo.png,0\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "': this file is read, and would be lost; name a different one" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
