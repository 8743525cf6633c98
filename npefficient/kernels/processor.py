"""What the processor is and what its vectors are like.

LLVM knows, but takes 40 MB and as many milliseconds to say so: where the system has a file about it, that is enough for
all but compiling. As in Numba, the environment's NUMBA_CPU_NAME and NUMBA_CPU_FEATURES go before.
"""
import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
SAME_FOR_ALL_CORES = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")  # x86's fields


def identity() -> tuple:
    """All about the processor that compiled code depends on; two that differ never share code."""
    asked = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    return platform.system(), platform.machine(), *asked, *(_described().items() or target())


def target() -> tuple[str, str]:
    """LLVM's name for this processor, and its features as "+avx2,-avx512f,..": what to compile for."""
    import llvmlite.binding as llvm

    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else _host_features(llvm)
    return name or llvm.get_host_cpu_name(), features


def vector_unit() -> tuple[int, int]:
    """(floats in a vector, vector registers) of this processor."""
    having = _features()
    if {"avx512f", "avx512vl"} <= having:
        return 16, 32
    if {"avx2", "fma"} <= having:
        return 8, 16
    return 4, 32 if "neon" in having else 16


def _features() -> set[str]:
    described = _described()
    if described and not {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"} & set(os.environ):
        return set(described["flags"].split())
    return {feature[1:] for feature in target()[1].split(",") if feature.startswith("+")}


def _described() -> dict[str, str]:
    """What Linux says of the first x86 core; empty elsewhere."""
    try:
        first = CPUINFO.read_text().partition("\n\n")[0]
    except OSError:
        return {}
    fields = (line.partition(":") for line in first.splitlines())
    found = {name.strip(): value.strip() for name, _, value in fields if name.strip() in SAME_FOR_ALL_CORES}
    return found if "flags" in found else {}


def _host_features(llvm) -> str:
    try:
        return llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM can't tell on this platform: the name alone decides
        return ""
