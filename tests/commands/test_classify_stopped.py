"""`npefficient classify` for many photos, stopped half-way: what is kept, and how it is resumed."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from fresh import ROOT
from job_rows import forms, journal_of, read
from small import save_photos, small_model


def start(weights, *arguments, **options):
    command = [sys.executable, "-m", "npefficient", "classify", "--weights", weights, *arguments]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)}, **options)


def wait_for_rows(process, path, count):
    """Wait until the journal of a running job has `count` rows."""
    journal = journal_of(path)
    patience = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert process.poll() is None and time.monotonic() < patience, process.communicate()
        time.sleep(0.005)


@forms
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_stopped_half_way_and_resumed(classify, small, tmp_path, suffix, how):
    """The list comes through a pipe that stays open, so that the job can't end before it is stopped."""
    photos = save_photos(tmp_path, 40)
    (tmp_path / "20b.jpg").touch()
    photos = [*map(str, photos[:20]), str(tmp_path / "20b.jpg"), *map(str, photos[20:])]
    path, whole = tmp_path / f"out{suffix}", tmp_path / f"whole{suffix}"
    process = start(small, "-", "--output", path, "--topk", 2, stdin=subprocess.PIPE)
    process.stdin.write("".join(f"{photo}\n" for photo in photos[:30]))
    process.stdin.flush()
    wait_for_rows(process, path, 22)
    process.send_signal(getattr(signal, how))
    out, err = process.communicate(timeout=60)
    if how != "SIGKILL":
        assert process.returncode == {"SIGINT": 130, "SIGTERM": 143}[how] and "Traceback" not in err
        kept = len(read(path))
        assert 21 <= kept <= 30 and f"'{path}' has the first {kept} photos; the same command with --resume" in err
    (tmp_path / "list.txt").write_text("".join(f"{photo}\n" for photo in photos))
    assert classify(tmp_path / "list.txt", "--output", path, "--topk", 2)[0] == 1  # something is there already
    code, out, err = classify(tmp_path / "list.txt", "--output", path, "--topk", 2, "--resume")
    assert code == 1 and "wrote" in out and "1 of 41 photos could not be read" in err
    classify(tmp_path / "list.txt", "--output", whole, "--topk", 2)
    assert read(path) == read(whole) and [row["photo"] for row in read(path)] == photos
    if suffix in (".csv", ".jsonl"):
        assert path.read_bytes() == whole.read_bytes()


def test_2000_photos_to_parquet_interrupted_and_resumed(classify, small, tmp_path):
    folder, path = tmp_path / "photos", tmp_path / "out.parquet"
    folder.mkdir()
    photos = save_photos(folder, 2000)
    process = start(small, folder, "--output", path, "--batch-size", 4)
    wait_for_rows(process, path, 300)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    before = read(path)
    assert 300 <= len(before) < 2000
    code, _, err = classify(folder, "--output", path, "--resume")
    assert code == 0 and "2,000 of 2,000 photos (100%)" in err
    rows, model = read(path), small_model()
    assert rows[:len(before)] == before and [row["photo"] for row in rows] == [str(photo) for photo in photos]
    for row in rows[::97]:
        assert [(c["label"], c["probability"]) for c in row["classes"]] == model.classify(row["photo"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.parquet", "photos"]


def test_interrupt_while_standard_input_is_silent(small, tmp_path):
    process = start(small, "-", "--output", tmp_path / "out.csv", "--workers", 1, stdin=subprocess.PIPE)
    process.stdin.write("none.jpg\nnone.png\n" * 5)
    process.stdin.flush()
    wait_for_rows(process, tmp_path / "out.csv", 9)  # with the header; up to two photos wait for more to come
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and f"has the first {len(read(tmp_path / 'out.csv'))} photos" in err


def test_a_closed_pipe_ends_a_long_print(small, tmp_path):
    save_photos(tmp_path, 300)
    process = start(small, tmp_path, "--json")
    assert json.loads(process.stdout.readline())["photo"].endswith("00000.png")
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert process.returncode == 141 and err.count("\n") == 1 and "random weights can't tell classes apart" in err
