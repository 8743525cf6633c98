"""The command line: output, exit codes, and what is said when something is wrong."""
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fresh import ROOT
from PIL import Image

import npefficient
import weights_convert
from npefficient import hub
from npefficient.commands import SETTINGS, SUBCOMMANDS, bench, options
from npefficient.engine import compiled, cpus
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "ten.h5"
    write_weights(path, random_weights(architecture.build("lite0", 10)))
    return path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "palette.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
    Image.fromarray(pixels).convert("P").save(path, transparency=3)
    return path


def test_help_names_every_subcommand(command):
    code, out, _ = command("--help")
    assert code == 0 and all(f"\n    {subcommand} " in out for subcommand in SUBCOMMANDS)


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_help_of_every_subcommand(command, subcommand):
    code, out, _ = command(subcommand, "--help")
    assert code == 0 and out.startswith(f"usage: npefficient {subcommand}")


def test_settings_that_there_are_not_are_warned_of(command, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_MIROR", "x")
    code, _, err = command("list")
    assert code == 0 and err == (
        "npefficient: warning: the environment variable NPEFFICIENT_MIROR has no meaning (did you mean "
        "'NPEFFICIENT_MIRROR'?); there are NPEFFICIENT_CACHE, NPEFFICIENT_MIRROR, NPEFFICIENT_TRACEBACK\n")
    sources = "".join(path.read_text() for package in (npefficient, weights_convert)
                      for path in Path(package.__file__).parent.rglob("*.py"))
    assert set(re.findall("NPEFFICIENT_[A-Z]+", sources)) == set(SETTINGS)


@pytest.mark.parametrize("arguments", [
    "classify none.png --weights {ten}", "explain none.png --weights {ten} -o none.html",
    "classify empty.png --weights {ten} --output rows.csv", "finetune . -o m.h5 --weights none.h5",
    "validate . --weights none.h5", "profile --weights none.h5", "bench layers", "bench model", "bench peers",
    "bench photos",
])
def test_more_threads_than_processors_are_said_in_the_same_words(command, ten, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.png").touch()
    monkeypatch.setattr(cpus, "available_threads", lambda: 3)
    monkeypatch.setattr(bench, "MEASURES", dict.fromkeys(bench.MEASURES, lambda args: lambda report: None))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        _, _, err = command(*arguments.format(ten=ten).split(), "--threads", 4)
    assert err.count("npefficient: warning: 4 threads: this process may use 3 processors, so they take turns, which is "
                     "slower; use 3 or fewer\n") == 1


def test_list(command, nothing_at_hand):
    code, out, _ = command("list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and [row[0] for row in rows[1:]] == list(architecture.VARIANTS)
    assert rows[1][1:] == ["224x224", "4,652,008", "0.39", "74.83%", "92.17%", "download,", "18.8", "MB"]


@pytest.mark.parametrize("kind", ["cache", "package", "download"])
def test_list_and_pretrained_cfg_say_where_the_weights_come_from(command, monkeypatch, kind):
    monkeypatch.setattr(hub, "origin", lambda name: hub.Origin(kind, f"the place of {name}"))
    _, out, _ = command("list", "lite1")
    assert out.splitlines()[1].split("%  ")[-1].split(",")[0] == kind
    expected = None if kind == "download" else "the place of tf_efficientnet_lite1"
    assert npefficient.get_pretrained_cfg("lite1").file == expected
    weights = random_weights(architecture.build("lite1"))
    official = replace(weights, source=replace(weights.source, sha256=architecture.VARIANTS[
        "tf_efficientnet_lite1"].sha256_prefix + "0" * 56, kind="torch-zip"))
    assert npefficient.Model(official, num_threads=1).pretrained_cfg["file"] == expected
    assert npefficient.Model(weights, num_threads=1).pretrained_cfg["file"] is None


def test_list_wildcard(command):
    code, out, _ = command("list", "*lite[34]")
    assert code == 0 and [line.split()[0] for line in out.splitlines()[1:]] == [
        "tf_efficientnet_lite3", "tf_efficientnet_lite4"]
    code, out, err = command("list", "resnet*")
    assert code == 1 and out == "" and "no model matches 'resnet*'" in err


@pytest.mark.parametrize("name", ["lite0", "lite2", "tf_efficientnet_lite4"])
@pytest.mark.parametrize("flag", [(), ("--layers",)], ids=["stages", "layers"])
def test_info_adds_up(command, name, flag):
    code, out, _ = command("info", name, *flag)
    network = architecture.build(name)
    table = out.split("\n\n")[1].splitlines()[1:]
    params, macs, share = ([line.split()[column] for line in table] for column in (-3, -2, -1))
    assert code == 0
    for column, expected in ((params, network.param_count()),
                             (macs, network.macs(*network.variant.preprocessing.input_size))):
        *rows, total = (int(figure.replace(",", "")) for figure in column)
        assert sum(rows) == total == expected
    assert abs(sum(float(s.rstrip("%")) for s in share[:-1]) - 100) < 1.5
    assert network.variant.file in out and f"{network.variant.top1} %" in out


@pytest.mark.parametrize("size, first", [("225", "113x113"), ("256x320", "128x160"), ("1", "1x1")])
def test_info_at_another_size(command, size, first):
    code, out, _ = command("info", "lite0", "--size", size)
    assert code == 0 and first in out


def test_info_of_a_file_and_of_a_damaged_one(command, ten, tmp_path):
    code, out, _ = command("info", ten)
    assert code == 0 and "10 classes" in out and "all hold" in out and "seed 0 (random)" in out
    data = bytearray(ten.read_bytes())
    data[len(data) // 2] ^= 1
    bad = tmp_path / "bad.h5"
    bad.write_bytes(data)
    code, out, err = command("info", bad)
    assert code == 1 and str(bad) in err and "checksum" in err


def test_unknown_model_names_the_nearest(command):
    code, _, err = command("info", "lite_0")
    assert code == 1 and err == ("npefficient: error: unknown model 'lite_0': known are lite0 to lite4 "
                                 "(did you mean 'lite0'?)\n")


def test_classify_prints_top_k_with_bars(command, ten, photo):
    code, out, _ = command("classify", photo, "--weights", ten, "--topk", 3, "--threads", 1)
    lines = out.splitlines()
    assert code == 0 and "RANDOM weights" in lines[0] and lines[2] == str(photo)
    assert len(lines) == 6 and all("%" in line and "class " in line for line in lines[3:])
    shares = [float(line.split("%")[0]) for line in lines[3:]]
    assert shares == sorted(shares, reverse=True)


def test_classify_json(command, ten, photo):
    code, out, _ = command("classify", photo, photo, "--weights", ten, "--json", "--topk", 99)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 2 and rows[0] == rows[1]
    assert rows[0]["photo"] == str(photo) and len(rows[0]["classes"]) == 10
    assert sum(c["probability"] for c in rows[0]["classes"]) == pytest.approx(1, abs=1e-5)


def test_classify_goes_on_after_a_bad_photo(command, ten, photo, tmp_path):
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture")
    code, out, err = command("classify", tmp_path / "none.png", photo, text, "--weights", ten)
    assert code == 1 and out.count("class ") == 5 and str(photo) in out
    assert "none.png" in err and "notes.jpg" in err and "2 of 3 photos could not be read" in err


def test_classify_says_what_is_wrong(command):
    code, _, err = command("classify", "a.png", "--weights", "none.h5")
    assert code == 1 and err.startswith("npefficient: error: ") and "none.h5" in err


def test_warmup_says_where_the_code_is(command):
    code, out, _ = command("warmup")
    assert code == 0 and "compiled" in out.splitlines()[-1]
    assert os.path.isfile(out.strip().split(": ")[-1])


def run(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, **options)


def test_module_and_console_script_are_the_same():
    expected = run("-m", "npefficient", "list").stdout
    assert "tf_efficientnet_lite4" in expected
    script = run("-c", "import sys; from npefficient.commands import main; sys.exit(main(['list']))")
    assert script.stdout == expected


def test_weights_convert_is_the_subcommand_convert():
    assert run("-m", "weights_convert", "--help").stdout == run("-m", "npefficient", "convert", "--help").stdout


def test_a_closed_pipe_is_no_traceback(ten):
    done = subprocess.run(f'"{sys.executable}" -m npefficient info lite4 --layers | head -n 1', shell=True,
                          capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("tf_efficientnet_lite4") and done.stderr == ""


@pytest.mark.parametrize("arguments", [
    ("--help",), ("--version",), ("classify", "--help"), ("list",), ("info", "lite0"), ("compare", "ten.h5", "ten.h5")],
    ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_reader_that_has_gone_is_an_exit_code_of_its_own(ten, arguments, unbuffered):
    """As for tools that SIGPIPE ends; for `compare`, too, whose errors have another code."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", "npefficient", *arguments], stdout=writer, stderr=subprocess.PIPE,
                              timeout=120, cwd=ten.parent,
                              env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered})
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


MISSING = [
    (("classify", "a.png", "--output", "o.parquet"), "pyarrow", ".parquet needs pyarrow"),
    (("classify", "a.png", "--output", "o", "--engine", "ray"), "ray.data", "Ray Data is missing"),
    (("explain", "a.png"), "jinja2", "jinja2"),
    (("finetune", "p", "-o", "m.h5"), "sklearn.linear_model", "needs scikit-learn"),
    (("finetune", "p", "-o", "m.h5", "--report", "c.png"), "matplotlib", "needs matplotlib"),
]


@pytest.mark.parametrize("arguments, module, message", MISSING, ids=[" ".join(case[0]) for case in MISSING])
def test_a_missing_extra_is_noticed_before_any_work(command, tmp_path, monkeypatch, arguments, module, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(compiled, "driver", lambda report: pytest.fail("it compiles first"))
    code, out, err = command(*arguments, "--weights", "none.h5")
    assert code == 1 and out == "" and message in err and "python -m pip install" in err and "none.h5" not in err
    assert os.listdir() == ["a.png"]


@pytest.mark.parametrize("arguments", [
    ("classify", "a.png", "--output", "old"), ("classify", "a.png", "--output", "none/o.csv"),
    ("classify", "a.png", "--output", "none.csv/o.csv"), ("finetune", "p", "-o", "none/m.h5"),
    ("compare", "none.h5", "none.h5", "--json", "none/a.json"), ("profile", "a.png", "--trace", "none/a.json"),
    ("profile", "a.png", "--json", "none/a.json"), ("validate", "p", "--csv", "none/a.csv")], ids=" ".join)
def test_what_can_not_be_written_is_said_before_any_work(command, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    (tmp_path / "old.csv").touch()
    arguments = [word.replace("old", "old.csv") for word in arguments]
    weights = () if arguments[0] == "compare" else ("--weights", "none.h5")
    code, out, err = command(*arguments, *weights)
    assert code and out == "" and "none.h5" not in err
    assert "its directory does not exist" in err or "'old.csv' exists already" in err


def test_info_of_a_folder_is_that_of_its_checkpoint(command, ten, tmp_path):
    weights_convert.export(ten, f"{tmp_path / 'hub'}/")
    checkpoint = tmp_path / "hub" / "model.safetensors"
    for name in (tmp_path / "hub", f"local-dir:{tmp_path / 'hub'}", checkpoint):
        code, out, _ = command("info", name)
        assert code == 0 and f"file             {checkpoint}, {checkpoint.stat().st_size:,} bytes, float32\n" in out


def test_info_says_whose_labels_are_taken(command, tmp_path):
    for classes, said in ((1000, "none in the file, ImageNet's are taken: tench, Tinca tinca, "),
                          (3, "none in the file, numbers are taken: class 0, class 1, class 2\n"),
                          (0, "none, it has no classes\n")):
        write_weights(tmp_path / f"{classes}.h5", random_weights(architecture.build("lite0", classes)))
        assert f"labels           {said}" in command("info", tmp_path / f"{classes}.h5")[1]


def test_info_of_a_checkpoint(command, ten, tmp_path):
    weights_convert.export(ten, tmp_path / "model.safetensors")
    code, out, _ = command("info", tmp_path / "model.safetensors")
    assert code == 0 and out.startswith("tf_efficientnet_lite0: 10 classes, 3 input channels, at 224 x 224\n")
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert f"checkpoint       safetensors, sha256 {digest}" in out
    assert out.endswith(f"npefficient convert {tmp_path / 'model.safetensors'}\n")
    code, _, err = command("info", tmp_path / "none.pth")
    assert code == 1 and "none.pth': there is no such file" in err


def test_export_takes_a_model_by_name(command, tmp_path, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path))
    official = random_weights(architecture.build("lite0"))
    (tmp_path / "weights").mkdir()
    write_weights(tmp_path / "weights" / official.architecture.variant.file.replace(".pth", ".h5"), official)
    code, out, _ = command("export", "lite0", tmp_path / "out.safetensors")
    assert code == 0 and "read     lite0: tf_efficientnet_lite0, 1,000 classes, 3 input channels\n" in out
    assert (tmp_path / "out.safetensors").stat().st_size > 18_000_000


def test_compiling_gives_signs_of_life(monkeypatch):
    monkeypatch.setattr(options, "TICK", 0.001)
    said, patience = io.StringIO(), time.monotonic() + 60

    def driver(report):
        report("compiling")
        while said.getvalue().count(" s\n") < 2 and time.monotonic() < patience:
            time.sleep(0.001)

    monkeypatch.setattr(compiled, "driver", driver)
    options.compile_kernels(said)
    lines = said.getvalue().splitlines()
    assert "compiling" in lines and len(lines) >= 3 and {line[-2:] for line in lines} == {"ng", " s"}
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(tick)")]
