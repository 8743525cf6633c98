"""How many processors a process may use."""
import math
from types import SimpleNamespace

import pytest

from npefficient.engine import cpus
from npefficient.errors import ArgumentError


def cgroup(tmp_path, own, files):
    """A control group tree below tmp_path; returns the quota that is read from it."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return cpus._cgroup_quota(tmp_path / "fs", tmp_path / "own")


@pytest.mark.parametrize("own, files, expected", [
    pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, math.inf, id="v2_unlimited"),
    pytest.param("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5, id="v2_root"),
    pytest.param("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3.0,
                 id="v2_limit_further_up"),
    pytest.param("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "50000 100000"}, 0.5,
                 id="v2_tightest_counts"),
    pytest.param("4:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "200000", "cpu/d/cpu.cfs_period_us": "100000"}, 2.0,
                 id="v1"),
    pytest.param("4:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, math.inf,
                 id="v1_unlimited"),
    pytest.param("", {}, math.inf, id="no_control_groups"),
])
def test_cgroup_quota(tmp_path, own, files, expected):
    assert cgroup(tmp_path, own, files) == expected


@pytest.mark.parametrize("quota, affinity, expected", [(0.2, 4, 1), (1.5, 4, 2), (math.inf, 4, 4), (16.0, 3, 3)])
def test_available_threads_take_the_tighter_limit(monkeypatch, quota, affinity, expected):
    monkeypatch.setattr(cpus.sys, "platform", "linux")
    monkeypatch.setattr(cpus, "_cgroup_quota", lambda: quota)
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    assert cpus.available_threads() == expected
    assert cpus.check_threads(None) == expected


class Windows:
    """Stands for `ctypes.WinDLL`: a kernel32 whose processes may use the processors of `mask`."""

    def __init__(self, mask):
        self.mask = mask

    def __call__(self, name):
        assert name == "kernel32"
        return SimpleNamespace(GetCurrentProcess=Call(lambda: 2**64 - 1), GetProcessAffinityMask=Call(self._masks))

    def _masks(self, process, own, system):
        assert process == 2**64 - 1
        own._obj.value, system._obj.value = self.mask, 0xFF


class Call(SimpleNamespace):
    """A function of a library, which takes `argtypes` and `restype`."""

    def __init__(self, function):
        super().__init__(function=function)

    def __call__(self, *arguments):
        return self.function(*arguments)


@pytest.mark.parametrize("mask, expected", [(0b1111_1111, 8), (0b0101, 2), (1 << 63, 1), (0, 16)],
                         ids=["all", "two", "last", "several_groups"])
def test_windows_counts_the_bits_of_its_mask(monkeypatch, mask, expected):
    monkeypatch.delattr(cpus.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cpus.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(cpus.sys, "platform", "win32")
    monkeypatch.setattr(cpus.ctypes, "WinDLL", Windows(mask), raising=False)
    assert cpus.available_threads() == expected


@pytest.mark.parametrize("count, expected", [(10, 10), (None, 1)])
def test_system_without_affinity_gives_all_processors(monkeypatch, count, expected):
    """macOS; None: a system that does not tell. Control groups are Linux's: their files are not looked for."""
    monkeypatch.delattr(cpus.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cpus.os, "cpu_count", lambda: count)
    monkeypatch.setattr(cpus.sys, "platform", "darwin")
    monkeypatch.setattr(cpus, "_cgroup_quota", lambda: 0.5)
    assert cpus.available_threads() == expected


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "2", 10**20])
def test_check_threads_refuses(number):
    rule = "it must be a whole number of at (least 1|most 65,536), or None for all"
    with pytest.raises(ArgumentError, match=f"num_threads {number!r}: {rule}"):
        cpus.check_threads(number)
