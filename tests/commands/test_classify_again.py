"""`npefficient classify --output`: unreadable photos are named, and tried again; without photos there is no file."""
import io
import json
import os
import signal
import sys
import warnings

import numpy as np
import pytest
from job_rows import expected, forms, photos, read, schema, settings
from PIL import Image
from small import save_photos

from npefficient.commands import classify_many, terminal
from npefficient.jobs.output import open_output

BAD = "00001.png", "00003.png"


@pytest.fixture
def classify(classify, tmp_path, monkeypatch):
    """`classify` in a directory where p/ has five photos, two of them empty files; the whole ones lie beside p/."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("p")
    save_photos(tmp_path / "p", 5)
    for name in BAD:
        os.rename(f"p/{name}", name)
        (tmp_path / "p" / name).touch()
    return classify


# --- trying again ----------------------------------------------------------------------------------------------------


@forms
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "killed"])
def test_mended_photos_have_rows_in_their_places(classify, tmp_path, suffix, finished, monkeypatch):
    path = tmp_path / f"out{suffix}"
    if not finished:
        monkeypatch.setattr("npefficient.jobs.output.Output.finish", lambda output: None)
    assert classify("p", "--output", path)[0] == 1
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    before = read(path)
    os.replace(BAD[0], f"p/{BAD[0]}")
    code, out, err = classify("p", "--output", path, "--resume")
    assert code == 1 and out.endswith(f"\nwrote {path}: 5 rows\n")
    assert "npefficient: retrying 2 photos that could not be read before\n" in err
    assert "npefficient: 1 of 2 photos can be read now\n" in err
    assert err.endswith("npefficient: 1 of 5 photos could not be read: their rows give the reason\n")
    os.replace(BAD[1], f"p/{BAD[1]}")
    code, out, err = classify("p", "--output", path, "--resume")
    assert code == 0 and "1 of 1 photo can be read now" in err and "could not be read:" not in err
    assert classify("p", "--output", "whole" + suffix)[0] == 0
    assert read(path) == read(tmp_path / f"whole{suffix}") != before
    code, out, _ = classify("p", "--output", path, "--resume")
    assert code == 0 and out.splitlines()[-1] == f"nothing to do: {path} already has 5 rows, one for each photo"


def test_a_photo_that_is_named_twice_is_mended_twice_and_new_ones_come_after(classify, tmp_path):
    names = [f"p/{name}" for name in (BAD[0], "00000.png", BAD[0])]
    classify(*names, "--output", "o.jsonl")
    os.replace(BAD[0], names[0])
    code, _, err = classify(*names, "p/00002.png", "--output", "o.jsonl", "--resume")
    assert code == 0 and "2 of 2 photos can be read now" in err
    rows = read(tmp_path / "o.jsonl")
    assert [row["photo"] for row in rows] == [*names, "p/00002.png"] and rows[0] == rows[2]
    assert all(row["error"] is None for row in rows)


def test_names_on_standard_input_are_tried_again(classify, tmp_path, monkeypatch):
    def given():
        return io.TextIOWrapper(io.BytesIO("".join(f"p/0000{i}.png\n" for i in range(5)).encode()))

    monkeypatch.setattr(sys, "stdin", given())
    classify("-", "--output", "o.csv")
    os.replace(BAD[0], f"p/{BAD[0]}")
    monkeypatch.setattr(sys, "stdin", given())
    code, _, err = classify("-", "--output", "o.csv", "--resume")
    assert code == 1 and "1 of 2 photos can be read now" in err
    assert [row["error"] is None for row in read(tmp_path / "o.csv")] == [True, True, True, False, True]


def good(suffix, names, stop):
    """Rows without an error; Ctrl-C's signal comes before row number `stop`."""
    for i, name in enumerate(names):
        if i == stop:
            signal.raise_signal(signal.SIGINT)
        yield expected(suffix, [name])[0]


@forms
def test_an_interrupt_keeps_what_is_mended_by_then(tmp_path, suffix):
    path, names = tmp_path / f"out{suffix}", photos(12)  # the bad ones are 3, 7, 11
    with open_output(path, schema(suffix), settings()) as output:
        for row in expected(suffix, names):
            output.add(row)
    with open_output(path, schema(suffix), settings(), resume=True) as output:
        bad = output.skip(iter(names))
        assert bad == names[3::4] and output.bad == 3
        with pytest.raises(KeyboardInterrupt):
            output.renew(good(suffix, bad, stop=2))
        assert (output.count, output.bad) == (12, 1)
        output.publish()
        assert [i for i, row in enumerate(read(path)) if row["error"]] == [11]
    with open_output(path, schema(suffix), settings(), resume=True) as output:
        assert output.skip(iter(names)) == names[11:]
        assert output.renew(iter(())) == 0 and output.bad == 1, "no new row: the old one stays"
        output.publish()
    assert [row["photo"] for row in read(path)] == [row["photo"] for row in expected(suffix, names)]


@forms
def test_a_failure_while_trying_again_changes_nothing(tmp_path, suffix):
    path, names = tmp_path / f"out{suffix}", photos(8)
    with open_output(path, schema(suffix), settings()) as output:
        for row in expected(suffix, names):
            output.add(row)

    def failing():
        yield expected(suffix, names[:1])[0]
        raise RuntimeError

    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with open_output(path, schema(suffix), settings(), resume=True) as output:
        output.skip(iter(names))
        with pytest.raises(RuntimeError):
            output.renew(failing())
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


# --- named -----------------------------------------------------------------------------------------------------------


def test_the_first_photos_that_can_not_be_read_are_named(classify, tmp_path, monkeypatch):
    code, _, err = classify("p", "--output", "o.csv")
    lines = [line for line in err.splitlines() if "error: " in line]
    assert code == 1 and [line.split("': ")[0] for line in lines] == [
        f"npefficient: error: photo 'p/{name}" for name in BAD]
    assert "more photos" not in err
    monkeypatch.setattr(classify_many, "NAMED", 1)
    _, _, err = classify("p", "--output", "o.csv", "--force")
    assert err.count("error: photo") == 1 and err.count("more photos can't be read; they are not named here") == 1
    assert err.endswith("npefficient: 2 of 5 photos could not be read: their rows give the reason\n")


def test_warnings_of_one_kind_are_bounded(classify):
    for i in range(8):
        Image.fromarray(np.full((30, 20), 1000 * i + 999, np.uint16)).save(f"p/deep{i}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = classify("p", "--output", "o.csv")
    assert err.count("npefficient: warning: photo 'p/deep") == terminal.ALIKE
    assert err.count("npefficient: warning: more warnings of the same kind are not shown\n") == 1
    assert "grey values from 999 to 999 are clipped to 0..255" in err or "deep0" not in err


# --- nothing ---------------------------------------------------------------------------------------------------------


@forms
@pytest.mark.parametrize("names, message", [
    (["phots"], "photo 'phots' does not exist: check the path"),
    (["a.png", "b.png"], "photo 'a.png' does not exist, nor does any other of the 2 given"),
    (["list.txt"], "photo 'a.jpg' does not exist, nor does any other of the 3 given")], ids=["one", "two", "list"])
@pytest.mark.parametrize("how", [(), ("--resume",)], ids=["anew", "resume"])
def test_no_photo_makes_no_file(classify, tmp_path, suffix, names, message, how):
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    before = sorted(os.listdir())
    code, out, err = classify(*names, "--output", f"o{suffix}", *how)
    assert code == 1 and out == "" and err.startswith(f"npefficient: error: {message}")
    assert sorted(os.listdir()) == before


def test_no_photo_clears_no_file(classify, tmp_path):
    classify("p", "--output", "o.csv")
    before = (tmp_path / "o.csv").read_bytes()
    assert classify("phots", "--output", "o.csv", "--force")[0] == 1 and (tmp_path / "o.csv").read_bytes() == before


def test_one_that_is_not_there_has_a_row(classify, tmp_path):
    code, _, err = classify("p/00000.png", "phots", "--output", "o.jsonl")
    assert code == 1 and "error: photo 'phots': no such file" in err
    assert [row["error"] is None for row in read(tmp_path / "o.jsonl")] == [True, False]


def test_rows_of_photos_that_are_gone_can_be_finished(classify, tmp_path):
    """A job can be completed from its rows alone."""
    classify("p/00000.png", "--output", "o.jsonl")
    os.unlink("p/00000.png")
    code, out, _ = classify("p/00000.png", "--output", "o.jsonl", "--resume")
    assert code == 0 and "nothing to do" in out and json.loads((tmp_path / "o.jsonl").read_text())["error"] is None
