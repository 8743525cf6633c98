"""Weights that several processes fetch at the same time, or one that was killed."""
import os
import subprocess
import sys
import time

import pytest
from hub_server import CONTENT, FILE, H5, LITE0, left

from npefficient.hub import making, pretrained
from npefficient.network.variants import VARIANTS

CHILD = """
import time, weights_convert
from npefficient.hub import pretrained
from npefficient.network.variants import VARIANTS, Variant
def convert(source, target, *, force):
    time.sleep(0.3)
    part = target.with_suffix(f".{time.perf_counter_ns()}")
    part.write_bytes(b"converted " + source.read_bytes())
    part.replace(target)
weights_convert.convert = convert
VARIANTS[LITE0] = Variant(**VARIANT)
print(pretrained("lite0", progress=False))
"""


@pytest.mark.parametrize("locks, requests", [(True, [1]), (False, [1, 2])], ids=["with_locks", "without_locks"])
def test_pretrained_two_processes_at_once(locks, requests, server, weights):
    values = {field: getattr(VARIANTS[LITE0], field) for field in VARIANTS[LITE0].__dataclass_fields__}
    values["preprocessing"] = None
    code = f"LITE0, VARIANT = {LITE0!r}, {values!r}\n" + CHILD
    if not locks:
        code = "import sys; sys.modules['fcntl'] = None\n" + code
    pipe = subprocess.PIPE
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) for _ in "ab"]
    for child in children:
        out, err = child.communicate(timeout=60)
        assert (child.returncode, out.strip()) == (0, str(weights / H5)), err
    assert (weights / H5).read_bytes() == b"converted " + CONTENT
    assert left(weights) == [H5] and len(server.paths) in requests


def test_pretrained_stale_lock_file_blocks_nobody(server, weights):
    weights.mkdir(parents=True)
    (weights / f".{FILE}.lock").write_text("12345")
    assert pretrained("lite0").exists()


def test_pretrained_waits_for_the_holder_of_the_lock_but_not_for_good(server, weights, monkeypatch, capsys):
    fcntl = pytest.importorskip("fcntl")
    weights.mkdir(parents=True)
    monkeypatch.setattr(making, "LOCK_WAIT", 0.3)
    with open(weights / f".{FILE}.lock", "ab") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        started = time.monotonic()
        assert pretrained("lite0").exists()
        assert 0.3 <= time.monotonic() - started < 10
    assert f"another process is fetching {FILE}: waiting" in capsys.readouterr().err


def test_pretrained_drops_the_lock_itself(server, weights, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    take, calls = fcntl.flock, []
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: (calls.append(operation), take(file, operation)))
    pretrained("lite0")
    assert calls == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN], "a forked child may keep the file open for ever"


def test_pretrained_removes_what_a_killed_process_left(server, weights):
    for name, age in [("old", 100_000), ("young", 100)]:
        (weights / f".fetch-{name}").mkdir(parents=True)
        (weights / f".fetch-{name}" / FILE).write_bytes(b"half")
        os.utime(weights / f".fetch-{name}", (time.time() - age,) * 2)
    pretrained("lite0")
    assert left(weights) == [".fetch-young", H5]
