"""Identify the processor and its vector units.

The architecture is looked at first, then its features. LLVM knows these, but takes 40 MB and 40 ms to load: if the
system has a file about them, that is enough for everything except compiling. As in Numba, the environment variables
NUMBA_CPU_NAME and NUMBA_CPU_FEATURES take precedence.

The vector width affects only the speed of the kernels, never their results: LLVM splits vectors that are too wide for
the processor, and spills to memory what does not fit its registers.
"""
import os
import platform
import re
import sys
from pathlib import Path

from ..errors import ArgumentError

CPUINFO = Path("/proc/cpuinfo")
X86, ARM64 = ("x86_64", "amd64", "i386", "i686", "x86"), ("aarch64", "arm64")  # Linux, macOS and Windows differ
SAME_FOR_ALL_CORES = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")  # x86's fields


def identity() -> tuple:
    """Everything about the processor that compiled code depends on; different ones never share code."""
    asked = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    return sys.platform, _architecture(), *asked, *(_described().items() or target())


def target() -> tuple[str, str]:
    """The target to compile for: LLVM's name for this processor, and its features as "+avx2,-avx512f,..".

    Raises ArgumentError for features on which LLVM would end the process.
    """
    import llvmlite.binding as llvm

    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else _host_features(llvm)
    elif features and not re.fullmatch(r"[+-][\w.-]+(,[+-][\w.-]+)*", features):
        raise ArgumentError(f"NUMBA_CPU_FEATURES={features!r}: it must be names with + or - before each and commas "
                            "between, such as '+avx2,+fma'")
    return name or llvm.get_host_cpu_name(), features


def vector_units() -> list[tuple[str, int, int]]:
    """(name, floats in a vector, vector registers) for each vector width of this processor, the widest last."""
    if _architecture() in ARM64:
        # Every ARM64 processor has NEON, Apple's too. With SVE, LLVM still uses NEON for vectors of a fixed size: it
        # does not know how wide SVE is on the processor that runs the code.
        return [("NEON", 4, 32)]
    if _architecture() not in X86:
        return [("128 bit", 4, 16)]  # what others have at least (POWER, s390x)
    having = features()
    avx512 = {"avx512f", "avx512vl"} <= having
    fma = avx512 or "fma" in having
    registers = 32 if avx512 else 16
    units = [("128 bit" if fma else "no FMA", 4, registers)]  # without the instruction, a library function computes FMA
    if fma and (avx512 or "avx2" in having):
        units.append(("AVX2", 8, registers))
    if avx512:
        units.append(("AVX-512", 16, registers))
    return units


def vector_unit() -> tuple[int, int]:
    """(floats in a vector, vector registers) of this processor's widest vectors."""
    _, lanes, registers = vector_units()[-1]
    return lanes, registers


def is_x86() -> bool:
    return _architecture() in X86


def has_dot_products(lanes: int | None = None) -> bool:
    """True if the processor has x86's products of uint8 and int8, four in each lane (VNNI), for vectors of `lanes`
    lanes; by default for its widest ones."""
    if not is_x86():
        return False
    having = features()
    avx512, avx = (bool(names & having) for names in (  # LLVM's and Linux's
        {"avx512vnni", "avx512_vnni"}, {"avxvnni", "avx_vnni"}))
    return {16: avx512, 8: avx or avx512 and "avx512vl" in having}.get(lanes or vector_unit()[0], False)


def _architecture() -> str:
    """The architecture that this process runs on, in lower case.

    Windows for ARM64 also runs Python for x86-64, by emulation. There `platform.machine` may name the machine's own
    architecture, while `sys.version` ends in the one that Python was built for: "[MSC v.1938 64 bit (AMD64)]".
    """
    if sys.platform == "win32":
        for name in ("amd64", "arm64"):
            if f"({name})" in sys.version.lower():
                return name
    return platform.machine().lower()


def features() -> set[str]:
    described = _described()
    if described and not {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"} & set(os.environ):
        return set(described["flags"].split())
    return {feature[1:] for feature in target()[1].split(",") if feature.startswith("+")}


def _described() -> dict[str, str]:
    """What Linux says about the first x86 core; empty elsewhere.

    Other architectures are excluded first: an emulator of one may show the cpuinfo file of its x86 host. On other
    systems the path could be anybody's file.
    """
    if sys.platform != "linux" or _architecture() not in X86:
        return {}
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
    except RuntimeError:  # LLVM can't tell on this platform: use the name only
        return ""
