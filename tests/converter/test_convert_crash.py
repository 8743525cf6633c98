"""Conversions that are killed, or meet a full disk: the target is absent, the old file, or the new one."""
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import checkpoints as by_hand
import pytest

import npefficient
from weights_convert import convert

ROOT = Path(npefficient.__file__).parents[1]
KILLS = 100

# A process that has everything imported forks one conversion after another, and kills each after a random delay.
KILLER = """
import json, os, random, signal, sys, time
import h5py, npefficient.images.image
from weights_convert import convert
source, target, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance, outcomes = random.Random(5), []

def conversion():
    child = os.fork()
    if child == 0:
        code = 1
        try:
            convert(source, target, force=True)
            code = 0
        finally:
            os._exit(code)
    return child

def contents():
    return open(target, "rb").read() if os.path.exists(target) else None

start = time.perf_counter()
assert os.waitpid(conversion(), 0)[1] == 0
duration, new = time.perf_counter() - start, contents()
os.unlink(target)
for i in range(kills):
    old = b"old" * 1000 if i % 2 else None
    if old:
        open(target, "wb").write(old)
    child = conversion()
    time.sleep(chance.uniform(0, 1.1 * duration))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    left = contents()
    outcomes.append("old" if left == old else "new" if left == new else "broken")
    for name in os.listdir(os.path.dirname(target)):
        if name != os.path.basename(source):
            os.unlink(os.path.join(os.path.dirname(target), name))
print(json.dumps(outcomes))
"""


def run(program: str, *args) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", program, *map(str, args)], env=environment, capture_output=True,
                          text=True,
                          timeout=300)


@pytest.fixture
def model(tmp_path):
    (tmp_path / "lite0.pth").write_bytes(by_hand.save(by_hand.network(), "zip"))
    return tmp_path / "lite0.pth"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_random_moments(model):
    done = run(KILLER, model, model.with_suffix(".h5"), KILLS)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == KILLS and set(outcomes) == {"old", "new"}, outcomes  # both, or no delay was right


def test_full_disk_leaves_the_old_file(model):
    """A limit on file sizes acts as a full disk: the write fails half-way, in HDF5's own code."""
    program = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
               "from weights_convert import convert\n"
               "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
               "try: convert(sys.argv[1], sys.argv[2], force=True)\n"
               "except Exception as error: print(type(error).__name__)")
    target = model.with_suffix(".h5")
    for old in (None, b"old"):
        if old:
            target.write_bytes(old)
        done = run(program, model, target)
        assert done.returncode == 0 and done.stdout.strip() in ("OSError", "RuntimeError"), done.stdout + done.stderr
        assert (target.read_bytes() if target.exists() else None) == old
        assert {path.name for path in model.parent.iterdir()} <= {"lite0.pth", "lite0.h5"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_of_a_late_step_leaves_the_old_file(model, monkeypatch, step):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = model.with_suffix(".h5")
    target.write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left on device"):
        convert(model, target, force=True)
    assert target.read_bytes() == b"old"
    assert {path.name for path in model.parent.iterdir()} == {"lite0.pth", "lite0.h5"}


def test_directory_that_is_missing_or_not_writable(model, tmp_path):
    with pytest.raises(ValueError, match="nowhere/x.h5'.*directory does not exist"):
        convert(model, tmp_path / "nowhere" / "x.h5")
