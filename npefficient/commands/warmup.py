"""Compile the kernels now, so that the first photo does not have to wait.

That takes some seconds, once on each machine: the code is kept in ~/.cache/npefficient, or where NPEFFICIENT_CACHE
says.
"""
from .options import compile_kernels


def add_arguments(parser):
    pass


def run(args) -> int:
    import sys
    import time

    from ..engine import compiled

    start, cached = time.perf_counter(), compiled.is_cached()
    compile_kernels(sys.stdout)
    seconds = time.perf_counter() - start
    place = compiled.code_path() if compiled.is_cached() else "in memory alone, it could not be kept"
    print(f"{'found compiled code' if cached else 'compiled'} in {seconds:.1f} s: {place}")
    return 0
