"""npefficient profile: the stages of a photo, the steps of the network, and the trace of both."""
import json

import numpy as np
import pytest
from json_tables import tables

from npefficient import demo
from npefficient.bench import layers, profile
from npefficient.bench.steps import Steps
from npefficient.commands import main
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.network.quantization import quantize
from npefficient.weights.quantized_file import write_quantized
from npefficient.weights.weight_file import read_weights, write_weights

ZERO = str(demo.digits()[0])
DIGITS = str(demo.weights_path())


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """(tables, trace) of one run on a digit."""
    place = tmp_path_factory.mktemp("profile")
    code = main(["profile", ZERO, "--weights", DIGITS, "--seconds", "0.02", "--json", str(place / "profile.json"),
                 "--trace", str(place / "trace.json")])
    assert code == 0
    return tables(place / "profile.json"), json.loads((place / "trace.json").read_text())


def test_stages_add_up(profiled):
    *stages, together = profiled[0]["stages"]
    assert [row["stage"] for row in stages] == list(profile.PARTS)
    assert together["ms"] == pytest.approx(sum(row["ms"] for row in stages))
    assert together["best"] == pytest.approx(sum(row["best"] for row in stages))
    assert sum(row["of time"] for row in stages) == pytest.approx(1)


def test_every_step_is_there(profiled):
    *rows, total, whole, difference = profiled[0]["layers"]
    weights = read_weights(DIGITS)
    steps = Steps(weights, np.zeros((1, 64, 64, 3), np.float32))
    assert [row["layer"] for row in rows] == [layers.BEFORE, *(step.name for step in steps.steps)]
    assert sum(row["MMACs"] for row in rows[1:]) == pytest.approx(weights.architecture.macs(64, 64) / 1e6)
    assert total["us"] + difference["us"] == pytest.approx(whole["us"])


def test_int8_has_the_steps_of_its_own_network(tmp_path, capsys):
    """The same from a file of int8 weights, without being told; each step in operations on integers."""
    stored = tmp_path / "int8.h5"
    write_quantized(stored, quantize(read_weights(DIGITS)))
    steps = Steps(quantize(read_weights(DIGITS)), np.zeros((1, 64, 64, 3), np.float32))
    for weights in ((DIGITS, "--precision", "int8"), (str(stored),)):
        code = main(["profile", ZERO, "--seconds", "0.01", "--json", str(tmp_path / "profile.json"), "--trace",
                     str(tmp_path / "trace.json"), "--weights", *weights])
        out = capsys.readouterr().out
        assert code == 0 and "lite0 64x64 int8, 1 thread" in out and " GOP/s" in out and "GFLOP/s" not in out
        *rows, _, _, _ = tables(tmp_path / "profile.json")["layers"]
        assert [row["layer"] for row in rows] == [layers.BEFORE, *(step.name for step in steps.steps)]
        assert sum(row["layer"].startswith("input of ") for row in rows) == 17
        events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        assert [event["name"] for event in events if event["tid"] == 2 and event["ph"] == "X"] == [
            row["layer"] for row in rows]
    assert main(["profile", ZERO, "--weights", str(stored), "--precision", "float32"]) == 1
    assert "these weights are int8" in capsys.readouterr().err


def test_trace_shows_the_steps_one_after_the_other(profiled):
    events = [event for event in profiled[1]["traceEvents"] if event["ph"] == "X"]
    photo, steps = ([event for event in events if event["tid"] == line] for line in (1, 2))
    assert [event["name"] for event in photo] == list(profile.PARTS)
    rows = profiled[0]["layers"][:-3]
    assert [event["name"] for event in steps] == [row["layer"] for row in rows]
    assert [event["dur"] for event in steps] == pytest.approx([row["best"] for row in rows])
    for line in (photo, steps):
        ends = [event["ts"] + event["dur"] for event in line]
        assert [event["ts"] for event in line[1:]] == pytest.approx(ends[:-1])
    compute = photo[2]
    assert steps[0]["ts"] == pytest.approx(compute["ts"])
    assert steps[-1]["ts"] + steps[-1]["dur"] == pytest.approx(compute["ts"] + compute["dur"])
    assert {event["args"]["name"] for event in profiled[1]["traceEvents"] if event["ph"] == "M"} == {"photo", "network"}


def test_without_a_photo_it_takes_one_of_its_own(capsys, tmp_path):
    trace = tmp_path / "trace.json"
    assert main(["profile", "--seconds", "0.01", "--threads", "2", "--trace", str(trace)]) == 0
    out = capsys.readouterr().out
    assert "lite0 224x224, 2 threads" in out and f"wrote {trace}: the trace" in out
    assert f"{demo.photographs()[0]}, 480 x 320 pixels" in out and profile.READ in out
    events = json.loads(trace.read_text())["traceEvents"]
    assert [event["name"] for event in events if event.get("tid") == 1 and event["ph"] == "X"] == list(profile.PARTS)


def test_network_of_another_number_of_channels_has_no_photo(capsys, tmp_path):
    weights = tmp_path / "grey.h5"
    write_weights(weights, random_weights(architecture.build("lite0", 3, 1)))
    assert main(["profile", "--seconds", "0.01", "--weights", str(weights)]) == 0
    assert profile.READ not in capsys.readouterr().out


def test_wrong_logits_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(profile, "plain_network", lambda *arguments: lambda x: np.zeros((1, 10), np.float32))
    assert main(["profile", ZERO, "--weights", DIGITS, "--seconds", "0.01"]) == 1
    assert "the whole pass: WRONG RESULT" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["none.jpg"], "photo 'none.jpg': no such file"),
    (["--weights", "none.h5"], "none.h5"),
    (["--json", "nowhere/a.json"], "'nowhere/a.json': its directory does not exist"),
    (["--weights", "none.h5", "--trace", "nowhere/a.json"], "nowhere/a.json': its directory"),  # before any work
], ids=["photo", "weights", "json", "trace"])
def test_what_can_not_be_done_is_said(arguments, message, capsys):
    assert main(["profile", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_grey_network_has_random_pixels_of_its_own(capsys):
    """A network with another number of channels has no photos, but can be profiled."""
    from npefficient.bench.report import Report

    weights = random_weights(architecture.build("lite0", 3, 1))
    profile.run(Report(), weights, None, 1, 0.01)
    assert "224x224x1" in capsys.readouterr().out
