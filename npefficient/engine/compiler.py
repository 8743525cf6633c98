"""Compile the driver and all kernels with Numba, for this processor or the one that NUMBA_CPU_NAME names."""
from ..errors import ArgumentError
from . import machine_code

ARGUMENTS = 2  # of run.work, both int64


def compile_code() -> tuple[bytes, set[str]]:
    """The compiled `run.work` for `machine_code.load`, and the symbols it needs that not every process has."""
    compiled = compile_driver()
    return machine_code.emit(compiled.inspect_llvm(), compiled.native_name)


def compile_driver():
    """What Numba makes of `run.work` and all kernels, a C callback."""
    from numba import cfunc, config, types

    if config.DISABLE_JIT:
        raise ArgumentError("NUMBA_DISABLE_JIT is set: without compiling there is no engine; unset it, or make the "
                            "model in Python with backend='reference'")
    from .run import work

    # Inlined into its C wrapper: LLVM then removes the wrapper's error handling, as nothing in `work` can raise.
    signature = types.int64(*[types.int64] * ARGUMENTS)
    return cfunc(signature, error_model="numpy", forceinline=True)(work)
