"""Files of rows after a job was killed, was interrupted, or had a full disk."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from job_rows import expected, forms, photos, read, schema, settings, work

from npefficient.jobs import output

ROOT = Path(__file__).parents[3]
STEPS = {".csv": 37, ".jsonl": 37, ".parquet": 127, ".h5": 211}  # tests/helpers/crashes.py with 1 takes minutes


def python(*arguments):
    path = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.run([sys.executable, *map(str, arguments)], env={**os.environ, "PYTHONPATH": path},
                          capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@forms
@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_stopped_at_any_line(tmp_path, how, suffix):
    done = python(ROOT / "tests" / "helpers" / "crashes.py", how, suffix, tmp_path, STEPS[suffix])
    assert done.returncode == 0, done.stdout + done.stderr
    stops, _, result = done.stdout.partition(" ")
    assert int(stops) > 10 and result == "stops, all mended\n" and done.stderr == ""


LIMITED = """
import resource, signal, sys
from pathlib import Path
from job_rows import photos, work
import npefficient.jobs.output.h5, npefficient.jobs.output.parquet, pyarrow.parquet
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
count = int(sys.argv[1])
for limit, path in zip(map(int, sys.argv[2::2]), map(Path, sys.argv[3::2])):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        work(path, photos(count), resume=True)
    except OSError as error:
        print(error.errno, error.filename == str(path), error.strerror)
"""


@forms
def test_full_disk_keeps_the_rows(tmp_path, suffix):
    """A limit on file sizes acts as a full disk: the journal or the file made of it reaches it at some point."""
    limits = {limit: tmp_path / f"{limit}{suffix}" for limit in (0, 60, 100, 500, 1000, 2000, 3000)}
    done = python("-c", LIMITED, 60, *(word for pair in limits.items() for word in pair))
    said = done.stdout.splitlines()
    assert done.returncode == 0 and len(said) == len(limits), done.stdout + done.stderr
    for (limit, path), line in zip(limits.items(), said):
        if limit >= 100:  # else there was no room for the settings
            assert line.startswith("27 True File too large; the ") and "rows before are kept: once" in line
        shown = read(path) if path.exists() else []
        assert shown == expected(suffix, photos(60))[:len(shown)]
        assert work(path, photos(60), resume=True) == (60, 15)
        assert read(path) == expected(suffix, photos(60))


@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
def test_full_disk_after_the_last_row(tmp_path, suffix):
    """There is room for the journal but not for the file made of it: the previous file stays."""
    path = tmp_path / f"out{suffix}"
    work(path, photos(2))
    before = path.read_bytes()
    journal = tmp_path / f".out{suffix}.rows.jsonl"
    with output.open_output(path, schema(suffix), settings(), resume=True) as file:
        file.skip(iter(photos(2)))
        file.add(expected(suffix, photos(3))[2])
    limit = journal.stat().st_size + 1
    assert limit < len(before)
    done = python("-c", LIMITED, 3, limit, path)
    assert done.stdout.startswith("27 True File too large; the 3 rows before are kept"), done.stderr
    assert path.read_bytes() == before and sorted(f.name for f in tmp_path.iterdir()) == [
        f".out{suffix}.rows.jsonl", f".out{suffix}.settings.json", f"out{suffix}"]
    work(path, photos(3), resume=True)
    assert read(path) == expected(suffix, photos(3))


def test_h5_is_written_outside_the_main_thread(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        pool.submit(work, tmp_path / "out.h5", photos(5)).result()
    assert read(tmp_path / "out.h5") == expected(".h5", photos(5))
