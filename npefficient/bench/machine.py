"""The machine and the software that a figure was measured with, for every JSON file."""
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from ..kernels.processor import target

CPU0 = Path("/sys/devices/system/cpu/cpu0")
FEATURES = ("sse2", "avx", "avx2", "fma", "avx512f", "avx512vl", "avxvnni", "avx512vnni", "neon")  # in LLVM's words
ASSUMED = {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}  # bytes, if the system does not tell


def read(path: Path) -> str:
    """The stripped text of a kernel file; empty if it does not exist."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def features() -> list[str]:
    """The CPU features that affect the kernels' speed; NUMBA_CPU_FEATURES may disable some."""
    having = target()[1].split(",")
    return [name for name in FEATURES if f"+{name}" in having]


def cache_sizes(cpu: Path = CPU0) -> dict[str, int]:
    """Bytes of each level of data cache of the first CPU, "L1" first; ASSUMED if unknown."""
    sizes = {}
    for index in sorted((cpu / "cache").glob("index*")):
        size = read(index / "size")
        if read(index / "type") in ("Data", "Unified") and size[:-1].isdigit() and size[-1] in "KM":
            sizes[f"L{read(index / 'level')}"] = int(size[:-1]) << {"K": 10, "M": 20}[size[-1]]
    return dict(sorted(sizes.items())) or ASSUMED


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as the system gives it."""
    for line in read(cpuinfo).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def frequencies(cpu: Path = CPU0, cpuinfo: Path = Path("/proc/cpuinfo")) -> dict:
    """MHz, as far as the system tells: current, highest, and the governor; most virtual machines hide them."""
    found = {}
    for name, file in (("now", "scaling_cur_freq"), ("highest", "cpuinfo_max_freq")):
        if text := read(cpu / "cpufreq" / file):
            found[name] = int(text) / 1000
    if governor := read(cpu / "cpufreq" / "scaling_governor"):
        found["governor"] = governor
    nominal = [line.partition(":")[2].strip() for line in read(cpuinfo).splitlines() if line.startswith("cpu MHz")]
    if nominal:
        found["cpuinfo"] = float(nominal[0])
    return found


def others_running(loadavg: Path = Path("/proc/loadavg"), times: int = 10) -> float | None:
    """How many threads run or wait for a processor besides this one, on average over a tenth of a second; None if the
    system does not tell. A load average also counts what ended a minute ago."""
    found = []
    for _ in range(times):
        fields = read(loadavg).split()
        if len(fields) < 4:
            return None
        found.append(int(fields[3].partition("/")[0]) - 1)
        time.sleep(0.01)
    return sum(found) / times


def commit() -> str | None:
    """The git commit of these sources, with "+changes" if they differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments):
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        tracked = git("ls-files", __file__).strip()  # an installed copy may be inside another project's checkout
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain", "-uno").strip() else "") \
            if tracked else None
    except (OSError, subprocess.CalledProcessError):
        return None


def version(distribution: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict:
    """All of this, as JSON-serialisable values."""
    from ..common.version import __version__
    from ..engine.cpus import available_threads

    versions = {"npefficient": __version__, "python": platform.python_version(),
                **{name: version(name) for name in ("numpy", "numba", "llvmlite")}}
    return {
        "command": ["npefficient", *sys.argv[1:]],
        "cpu": cpu_name(), "features": features(), "caches": cache_sizes(), "mhz": frequencies(),
        "threads_available": available_threads(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(), "versions": versions, "commit": commit(),
        "settings": {k: v for k, v in sorted(os.environ.items()) if k.startswith(("NUMBA_", "NPEFFICIENT_", "OMP_"))},
    }


def resident_peak() -> int | None:
    """This process's peak resident memory so far, in bytes; None if the system does not tell (Windows).

    On Linux, `ru_maxrss` is inherited from the parent process, so the figure is read from /proc.
    """
    for line in read(Path("/proc/self/status")).splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10
