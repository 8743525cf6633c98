"""Compile the kernels now, so that the first photo does not have to wait.

That takes some seconds, once on each machine: the code is kept in ~/.cache/npefficient, or where NPEFFICIENT_CACHE
says. Nothing is compiled if code for this processor came with the package. With --for and --into, code is compiled for
other processors, as the build of a wheel does (NPEFFICIENT_SHIP).
"""
from .options import compile_kernels


def add_arguments(parser):
    parser.add_argument("--for", dest="targets", metavar="TARGET,..",
                        help="compile for these processors: x86-64-v3 (AVX2), x86-64-v4 (AVX-512); on ARM64 "
                             "neoverse-n1. Each takes a process of its own")
    parser.add_argument("--into", metavar="DIR", help="the directory for --for: engine/objects of the package that "
                                                      "is to use the code")


def run(args) -> int:
    import sys
    import time

    from ..engine import compiled

    if bool(args.targets) != bool(args.into):
        args.refuse("--for and --into go together: which processors, and the directory for their code")
    if args.targets:
        return _ship(args)
    start, before = time.perf_counter(), compiled.found()
    compile_kernels(sys.stdout)
    seconds = time.perf_counter() - start
    place = compiled.found() or "in memory alone, it could not be kept"
    print(f"{'found compiled code' if before else 'compiled'} in {seconds:.1f} s: {place}")
    return 0


def _ship(args) -> int:
    from pathlib import Path

    from ..engine.shipping import ship
    from ..engine.targets import targets_named
    from .options import refusing

    with refusing(args):
        targets = targets_named(filter(None, args.targets.split(",")))
    ship(targets, Path(args.into), print)
    return 0
