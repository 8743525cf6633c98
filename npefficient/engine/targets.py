"""Processors that code can be compiled for without having one, by name.

A target is a set of features: its code runs on every processor that has them all. x86-64-v3 and -v4 are levels of the
x86-64 System V ABI. Neither has VNNI, the products of bytes with which int8 is fastest. There is no target without
fused multiply-add, such as x86-64-v2: there, each one is a call of the C library, and only LLVM can load code that
calls something.
"""
import platform
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ArgumentError
from ..kernels.processor import ARM64, features

X86_64 = ("x86_64", "amd64")  # Linux and macOS, Windows
# LLVM's name of a feature: Linux's name in /proc/cpuinfo.
V3 = {"cx16": "cx16", "popcnt": "popcnt", "sahf": "lahf_lm", "sse3": "pni", "ssse3": "ssse3", "sse4.1": "sse4_1",
      "sse4.2": "sse4_2", "avx": "avx", "avx2": "avx2", "bmi": "bmi1", "bmi2": "bmi2", "f16c": "f16c", "fma": "fma",
      "lzcnt": "abm", "movbe": "movbe", "xsave": "xsave"}
V4 = {**V3, **{name: name for name in ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")}}
VNNI = {**V4, "avx512vnni": "avx512_vnni"}


@dataclass(frozen=True)
class Target:
    """A processor to compile for; code for it is used where `missing` finds nothing."""

    name: str
    machines: tuple[str, ...]  # what `platform.machine` calls the architecture
    processor: str  # LLVM's name for it
    needs: dict[str, str]  # features, by LLVM's name and by Linux's
    without: tuple[str, ...] = ()  # features of LLVM's processor that the code must not use

    def settings(self) -> dict[str, str]:
        """The environment variables that make Numba, and us, compile for this target."""
        signed = [*(f"+{feature}" for feature in self.needs), *(f"-{feature}" for feature in self.without)]
        return {"NUMBA_CPU_NAME": self.processor, "NUMBA_CPU_FEATURES": ",".join(signed)}

    def missing(self) -> list[str]:
        """The features that this processor lacks to run the code; its architecture, if that is another."""
        if platform.machine().lower() not in self.machines:
            return [self.machines[0]]
        having = features()
        return [name for name, linux in self.needs.items() if not {name, linux} & having]


# The best first. LLVM's model of a processor also says how long its instructions take; ARM64's Neoverse N1 stands for
# the servers of Arm's own design, and of its features only the atomic instructions of ARMv8.1 are used.
TARGETS = (
    Target("x86-64-v4-vnni", X86_64, "x86-64-v4", VNNI),
    Target("x86-64-v4", X86_64, "x86-64-v4", V4),
    Target("x86-64-v3", X86_64, "x86-64-v3", V3),
    Target("neoverse-n1", ARM64, "neoverse-n1", {"neon": "asimd", "lse": "atomics"},
           without=("rcpc", "dotprod", "fullfp16", "ras", "spe", "crc", "ssbs")),
)


def targets_named(names: Iterable[str]) -> list[Target]:
    """The targets of these names, in order and each once; ArgumentError for one that can't be compiled for here."""
    known, machine = {target.name: target for target in TARGETS}, platform.machine()
    found = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise ArgumentError(f"no target is called {name!r}: the targets are {', '.join(known)}")
        if machine.lower() not in known[name].machines:
            raise ArgumentError(f"code for {name} can't be compiled on {machine}: Numba compiles for the architecture "
                                f"that it runs on; run this on {known[name].machines[0]}")
        found.append(known[name])
    if not found:
        raise ArgumentError(f"no target is named: the targets are {', '.join(known)}")
    return found
