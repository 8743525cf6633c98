"""The command line: output, exit codes, and what is said when something is wrong."""
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from fresh import ROOT
from PIL import Image

import npefficient
import weights_convert
from npefficient.commands import SETTINGS, SUBCOMMANDS, bench, info, options
from npefficient.engine import compiled, cpus


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


def test_without_docstrings_the_commands_are_there():
    assert run("-OO", "-m", "npefficient", "list").stdout == run("-m", "npefficient", "list").stdout != ""


def test_settings_that_there_are_not_are_warned_of(command, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_MIROR", "x")
    code, _, err = command("list")
    assert code == 0 and err == (
        "npefficient: warning: unknown environment variable NPEFFICIENT_MIROR (did you mean "
        "'NPEFFICIENT_MIRROR'?); npefficient reads NPEFFICIENT_CACHE, NPEFFICIENT_MIRROR, NPEFFICIENT_SHIP, "
        "NPEFFICIENT_TRACEBACK\n")
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
    assert all(one["label"] == f"class {one['class']}" for one in rows[0]["classes"])
    assert sum(c["probability"] for c in rows[0]["classes"]) == pytest.approx(1, abs=1e-5)


def test_classify_goes_on_after_a_bad_photo(command, ten, photo, tmp_path):
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture")
    code, out, err = command("classify", tmp_path / "none.png", photo, text, "--weights", ten)
    assert code == 1 and out.count("class ") == 5 and str(photo) in out
    assert "none.png" in err and "notes.jpg" in err and "2 of 3 photos could not be read" in err


@pytest.mark.parametrize("arguments", ["{a} --topk 1 {b}", "--topk 1 {a} --json {b}"])
def test_photos_may_stand_on_both_sides_of_an_option(command, ten, photo, tmp_path, arguments):
    other = tmp_path / "other.png"
    Image.open(photo).save(other)
    words = [word.format(a=photo, b=other) for word in arguments.split()]
    code, out, _ = command("classify", "--weights", ten, *words)
    assert code == 0 and 0 < out.index(str(photo)) < out.index(str(other))


def test_an_optional_file_may_follow_an_option(command, ten, tmp_path):
    source, target = tmp_path / "model.safetensors", tmp_path / "out.h5"
    weights_convert.export(ten, source)
    code, _, err = command("convert", source, "--force", target)
    assert code == 0 and err == "" and target.exists()


def test_classify_says_what_is_wrong(command):
    code, _, err = command("classify", "a.png", "--weights", "none.h5")
    assert code == 1 and err.startswith("npefficient: error: ") and "none.h5" in err


@pytest.mark.parametrize("options", [(), ("--training",)], ids=["", "training"])
def test_warmup_says_where_the_code_is(command, options):
    code, out, _ = command("warmup", *options)
    assert code == 0 and "compiled" in out.splitlines()[-1]
    files = out.strip().split(": ")[-1].split(", ")
    assert len(files) == 1 + len(options) and all(map(os.path.isfile, files))


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
    """141, as if SIGPIPE had ended it; also for `compare`, whose exit code for errors is 2."""
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
    monkeypatch.setattr(compiled, "driver", lambda layout, report: pytest.fail("it compiles first"))
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


def test_compiling_gives_signs_of_life(monkeypatch):
    monkeypatch.setattr(options, "TICK", 0.001)
    said, patience = io.StringIO(), time.monotonic() + 60

    def driver(layout, report):
        report("compiling")
        while said.getvalue().count(" s\n") < 2 and time.monotonic() < patience:
            time.sleep(0.001)

    monkeypatch.setattr(compiled, "driver", driver)
    options.compile_kernels(said)
    lines = said.getvalue().splitlines()
    assert "compiling" in lines and len(lines) >= 3 and {line[-2:] for line in lines} == {"ng", " s"}
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(tick)")]


def test_warning_that_was_made_an_error_is_no_bug(command, monkeypatch):
    monkeypatch.setattr(info, "run", lambda args: warnings.warn("the text", RuntimeWarning, stacklevel=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as PYTHONWARNINGS=error does
        assert command("info", "lite0") == (1, "", "npefficient: error: the text\n")
