"""The weight file on a disk that is full, broken or not writable: the old file, the new one, or none, and no debris."""
import contextlib
import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from weight_files import content, difference, in_a_process, world_readable_directory

from npefficient.errors import ArgumentError, WeightsError
from npefficient.network import architecture
from npefficient.network.parameters import Source, Weights
from npefficient.network.preprocessing import Preprocessing
from npefficient.weights import network_file
from npefficient.weights import weight_file as module
from npefficient.weights.weight_file import read_weights, write_weights

FULL = OSError(errno.ENOSPC, "No space left on device")

# --- where it can't be written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("failure", [FULL, KeyboardInterrupt("stop"), MemoryError("stop")],
                         ids=["full", "interrupt", "memory"])
@pytest.mark.parametrize("place", ["create", "data", "read_back", "fsync", "rename"])
def test_weights_failure_leaves_the_old_file(tmp_path, small, monkeypatch, place, failure, old):
    def fail(*args, **kwargs):
        raise failure

    def write_half(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise failure

    target = tmp_path / "a.h5"
    if old:
        target.write_bytes(old)
    with monkeypatch.context() as patch:
        if place == "data":
            patch.setattr(Path, "write_bytes", write_half)
        elif place == "create":
            patch.setattr(network_file, "file_image", fail)
        elif place == "read_back":
            patch.setattr(module, "read_weights", fail)
        else:
            patch.setattr(os, {"fsync": "fsync", "rename": "replace"}[place], fail)
        with pytest.raises(type(failure), match="No space left|stop"):
            write_weights(target, small, force=True)
    assert content(tmp_path) == ({"a.h5": b"old"} if old else {})
    write_weights(target, small, force=True)
    assert list(content(tmp_path)) == ["a.h5"]


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from weight_files import small_weights
from npefficient.weights.weight_file import write_weights
weights = small_weights()
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_weights(sys.argv[1], weights, force=True)
        print("written")
    except OSError as error:
        print(error.errno)
"""


def test_weights_real_limit_of_the_disk(tmp_path):
    """The system refuses to let the file grow; HDF5 2.0 would kill the process if it wrote the file itself."""
    target = tmp_path / "a.h5"
    target.write_bytes(b"old")
    limits = [0, 1, 47, 100, 4096, 5000, 1_000_000, 6_900_000]
    process = in_a_process(LIMITED, target, *limits)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out.split()) == (0, [str(errno.EFBIG)] * len(limits)), err
    assert content(tmp_path) == {"a.h5": b"old"}
    process = in_a_process(LIMITED, target, 8_000_000)
    assert process.communicate(timeout=100) == ("written\n", "")


def altered(weights: Weights, **parameters) -> Weights:
    return replace(weights, parameters={**weights.parameters, **parameters})


@pytest.mark.parametrize("back, message", [
    (lambda w: altered(w, **{"bn1.bias": w.parameters["bn1.bias"] + np.float16(1)}), "'bn1.bias' read back"),
    (lambda w: altered(w, **{"bn1.bias": w.parameters["bn1.bias"].astype(np.float32)}), "'bn1.bias' read back"),
    (lambda w: altered(w, **{"bn1.num_batches_tracked": np.array(1)}), "'bn1.num_batches_tracked' read back"),
    (lambda w: replace(w, labels=None), "labels read back from .* None instead of"),
    (lambda w: replace(w, source=Source("b", "", "c")), "source read back from .*'b'"),
    (lambda w: replace(w, preprocessing=Preprocessing((8, 8))), r"preprocessing read back from .*\(8, 8\)"),
    (lambda w: replace(w, architecture=architecture.build("lite0", 11)), "architecture read back"),
], ids=["number", "type", "count", "labels", "source", "preprocessing", "architecture"])
def test_weights_read_back_is_compared(tmp_path, small, monkeypatch, back, message):
    """The comparison after writing can fail in each of its parts, and then no file is left."""
    monkeypatch.setattr(module, "read_weights", lambda path: back(small))
    with pytest.raises(WeightsError, match=message):
        write_weights(tmp_path / "a.h5", small)
    assert content(tmp_path) == {}


def test_weights_bit_lost_while_writing(tmp_path, small, monkeypatch):
    """A disk that changes one bit of what is written."""
    plain_write = Path.write_bytes

    def bad_write(path, data):
        data = bytearray(data)
        data[len(data) // 2] ^= 4
        plain_write(path, data)
    monkeypatch.setattr(Path, "write_bytes", bad_write)
    with pytest.raises(WeightsError, match="does not match its checksum"):
        write_weights(tmp_path / "a.h5", small)
    assert content(tmp_path) == {}


def test_weights_existing_file_is_kept_without_force(tmp_path, small):
    (tmp_path / "a.h5").write_bytes(b"old")
    with pytest.raises(ArgumentError, match="a.h5' exists already"):
        write_weights(tmp_path / "a.h5", small)
    assert content(tmp_path) == {"a.h5": b"old"}


# --- reading in difficult places -------------------------------------------------------------------------------------


@contextlib.contextmanager
def unprivileged():
    """Act as another user, since root may write everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_weights_read_only_file_and_directory(small):
    with world_readable_directory() as name:
        directory = Path(name)
        write_weights(directory / "a.h5", small)
        (directory / "a.h5").chmod(0o444)
        directory.chmod(0o555)
        try:
            with unprivileged():
                assert difference(read_weights(directory / "a.h5"), small) == ""
                with pytest.raises(PermissionError, match="b.h5"):
                    write_weights(directory / "b.h5", small)
                with pytest.raises(PermissionError, match="a.h5"):
                    write_weights(directory / "a.h5", small, force=True)
        finally:
            directory.chmod(0o755)


def test_weights_file_without_read_permission(small):
    with world_readable_directory() as name:
        path = Path(name) / "a.h5"
        write_weights(path, small)
        path.chmod(0o000)
        with unprivileged(), pytest.raises(WeightsError, match="can't read .*a.h5': Permission denied"):
            read_weights(path)


READ_MANY = """
import sys
from npefficient.weights.weight_file import read_weights
print("ready", flush=True)
sys.stdin.readline()
for _ in range(10):
    print(read_weights(sys.argv[1]).parameters["classifier.bias"].sum())
"""


def test_weights_two_processes_read_at_once(stored, small):
    processes = [in_a_process(READ_MANY, stored, stdin=subprocess.PIPE) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert difference(read_weights(stored), small) == ""
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert (out.split(), err) == ([str(small.parameters["classifier.bias"].sum())] * 10, "")


def test_weights_file_in_use_by_another_program(tmp_path, stored, small):
    """While another program has the file open, it can be replaced and read."""
    path = tmp_path / "a.h5"
    path.write_bytes(stored.read_bytes())
    with h5py.File(path) as held:
        assert difference(read_weights(path), small) == ""
        write_weights(path, replace(small, labels=None), force=True)
        assert "labels" in held
    assert read_weights(path).labels is None


def test_weights_file_is_closed_after_reading(tmp_path, stored, small):
    """After a success and after a refusal, since an HDF5 handle kept across a fork corrupts files."""
    before = h5py.h5f.get_obj_count()
    broken = tmp_path / "a.h5"
    broken.write_bytes(stored.read_bytes())
    with h5py.File(broken, "r+") as file:
        file.attrs["extra"] = 1
    read_weights(stored)
    with pytest.raises(WeightsError, match="attributes missing: none; unexpected: 1"):
        read_weights(broken)
    open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                  if os.path.islink(f"/proc/self/fd/{fd}")]
    assert not {str(stored), str(broken)} & set(open_files) and h5py.h5f.get_obj_count() == before
