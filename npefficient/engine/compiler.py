"""Compile the driver and all kernels, for this processor or the one that NUMBA_CPU_NAME names.

Where machine code needs no loader (`machine_code.IMAGE`), two processes share the work. In one, Numba compiles the
driver, in which the kernels are only declared; LLVM optimises it once, and not each routine before that, as Numba does.
In the other, LLVM compiles the kernels to one piece of machine code.
This piece then becomes a constant in the driver's module, and each kernel the name of a place in it. Elsewhere, or
where no process can be started, Numba compiles all of it in this process, which takes twice as much computing.
"""
import gc
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict

from ..errors import ArgumentError
from ..kernels.layout import Layout
from . import elf, machine_code
from .processes import own_process
from .records import ARGUMENTS

PIECE = "npefficient_kernels"
TRIVIAL = "define i64 @trivial(i64 %a, i64 %b) {\n  ret i64 %a\n}"


def compile_code(layout: Layout, report=lambda text: None) -> tuple[bytes, set[str]]:
    """The compiled driver for `machine_code.load`, and the symbols it needs that not every process has.

    `report(text)` is told when a part is done.
    """
    # sys.executable is the whole program where it is frozen, and nothing where Python is embedded.
    python = sys.executable and not getattr(sys, "frozen", False)
    if python and machine_code.emit(TRIVIAL, "trivial")[0].startswith(machine_code.IMAGE):
        joined = _compile_in_processes(layout, report)
        if joined:
            return joined
    compiled = compile_driver(layout)
    return machine_code.emit(compiled.inspect_llvm(), compiled.native_name)


def compile_driver(layout: Layout):
    """What Numba makes of `run.make_work`, with all kernels unless they are kept apart: a C callback."""
    try:
        from numba import cfunc, types
    except ImportError:
        raise
    except Exception as problem:  # whatever a reader of YAML raises
        raise ArgumentError(f"Numba can't be imported ({' '.join(str(problem).split())}): check the environment "
                            "variables that begin with NUMBA_, and its settings in '.numba_config.yaml' of the "
                            "current directory") from problem
    from ..kernels.lanes import check_compiling
    from .run import make_work

    check_compiling()

    # Inlined into its C wrapper: LLVM then removes the wrapper's error handling, as nothing in `work` can raise.
    signature = types.int64(*[types.int64] * ARGUMENTS)
    return cfunc(signature, error_model="numpy", forceinline=True)(make_work(layout))


# --- in two processes ------------------------------------------------------------------------------------------------


def _compile_in_processes(layout: Layout, report) -> tuple[bytes, set[str]] | None:
    """Compile both parts at once and join them; None if one failed, or if the kernels need a loader."""
    start = time.perf_counter()
    with _Process("driver_part", layout) as driver, _Process("kernels_part", layout) as kernels:
        piece = kernels.result()
        if piece is None:
            return None
        report(f"  1 of 2 parts done, {time.perf_counter() - start:.1f} s")
        compiled = driver.result()
    if compiled is None:
        return None
    code, foreign = machine_code.emit(_joined(compiled["text"], **piece), compiled["name"])
    return (code, foreign) if code.startswith(machine_code.IMAGE) else None  # else the piece could not be executed


class _Process:
    """A function of this module in a process of its own, ended with the block; its result is JSON."""

    def __init__(self, function: str, layout: Layout):
        arguments = function, json.dumps(asdict(layout))
        try:
            # What goes wrong there does so again in this process, which then says it.
            self.process = subprocess.Popen(
                own_process(__name__, "print_part", *arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env={**os.environ, "NUMBA_OPT": "0"})  # `driver_part` optimises
        except OSError:  # such as when there may be no more processes
            self.process = None

    def result(self):
        """What the function returned; None if it failed."""
        if self.process is None:
            return None
        said, _ = self.process.communicate()
        if self.process.returncode:
            return None
        try:
            return json.loads(said.splitlines()[-1])  # a setting of Numba, or a `sitecustomize.py`, can print before it
        except (IndexError, ValueError):
            return None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process is not None:
            self.process.kill()
            self.process.stdout.close()
            self.process.wait()


def print_part(function: str, layout: str) -> None:
    """Print the result of a part, in a process of its own; the layout is JSON."""
    gc.disable()  # Numba makes a million objects, and the process ends soon
    part = {"driver_part": driver_part, "kernels_part": kernels_part}[function]
    print(json.dumps(part(Layout(**json.loads(layout)))))


def driver_part(layout: Layout) -> dict:
    """The driver without kernels: its LLVM IR, and its name there."""
    import llvmlite.binding as llvm

    from ..kernels import lanes

    lanes.keep_apart()
    from ..kernels.formats import all_kernels

    all_kernels(layout)
    for write in lanes.writers(layout):  # Numba links what it compiles, but nobody calls it
        llvm.add_symbol(write.__name__, llvm.address_of_symbol("abort"))
    compiled = compile_driver(layout)
    return {"text": machine_code.optimised(compiled.inspect_llvm()), "name": compiled.native_name}


def kernels_part(layout: Layout) -> dict | None:
    """All kernels: their machine code, in hexadecimal, and where in it each one is. None if it needs a loader.

    LLVM's optimisation passes are left out. They would take three times as long as all the rest, and the inner loops
    are the same without them, instruction by instruction: a traced kernel has nothing that they could remove.
    """
    import llvmlite.binding as llvm

    from ..kernels import lanes
    from ..kernels.formats import all_kernels

    all_kernels(layout)
    code = machine_code.target_machine(llvm).emit_object(llvm.parse_assembly(str(lanes.module_of(layout))))
    images = {write.__name__: elf.image(code, write.__name__) for write in lanes.writers(layout)}
    if None in images.values():
        return None
    piece, _ = next(iter(images.values()))
    return {"piece": piece.hex(), "places": {name: place for name, (_, place) in images.items()}}


def _joined(text: str, piece: str, places: dict[str, int]) -> str:
    """The driver's LLVM IR with the kernels in it."""
    text = re.sub(rf"^declare void @({'|'.join(places)})\(.*\n", "", text, flags=re.MULTILINE)
    content = re.sub("..", r"\\\g<0>", piece)
    names = [f"@{name} = internal alias i8, getelementptr (i8, ptr @{PIECE}, i64 {place})\n"
             for name, place in places.items()]
    return f'{text}\n@{PIECE} = internal constant [{len(piece) // 2} x i8] c"{content}", align 64\n{"".join(names)}'
