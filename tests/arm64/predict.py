"""Predict the speed of the tiles on ARM64 from their machine code. Nothing is measured: it runs on any machine.

    python tests/arm64/predict.py [--llvm-mca FILE]

llvmlite compiles the tiles of NEON's layout for each processor, with the passes that Numba runs. The first columns are
counts of the innermost loop's instructions: FMAs, those that multiply by a lane, loads, copies of a value to all lanes
(splats), and accesses to the stack (spills). Then llvm-mca simulates the loop with LLVM's model of the processor: the
cycles of an iteration, FMAs per cycle, and their share of what independent FMAs reach in the same model.

The models are approximate. Every load is assumed to hit the first-level cache, and every branch to be predicted. The
Neoverse N1 has a model of its own; LLVM describes the Cortex-A72 by that of the Cortex-A57, and the Apple M1 by that of
the older Cyclone, with 3 FMAs per cycle and a latency of 2 cycles.
"""
import argparse
import re
import shutil
import subprocess
import sys
from collections import Counter

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.llvm_bindings import create_pass_builder

from npefficient.kernels.depthwise import depthwise_tile
from npefficient.kernels.lanes import _writer
from npefficient.kernels.layout import Layout
from npefficient.kernels.pointwise import pointwise_tile

TRIPLE = "aarch64-linux-gnu"
CPUS = ("neoverse-n1", "cortex-a72", "apple-m1")
NEON = Layout(lanes=4, registers=32)
OLDEST = 19  # of the versions tried: 14 describes the Neoverse N1 by the Cortex-A57's model
ITERATIONS = 200
CHAINS = 24  # independent FMAs, more than any model has in flight
COLUMNS = "{:<12} {:<18} {:>5} {:>7} {:>6} {:>7} {:>7} {:>8} {:>10} {:>9}"


def tiles() -> dict[str, tuple]:
    """The largest tile of each kind: its name -> (the function to trace, its constants)."""
    found = {}
    for vectors in (3, 2, 1):
        pixels = NEON.largest_tile(vectors)
        found[f"pointwise {pixels}x{vectors}"] = pointwise_tile, dict(VECTORS=vectors, HALF=0, PIXELS=pixels)
    for kernel in (3, 5):
        for stride in (1, 2):
            found[f"depthwise {kernel}x{kernel} s{stride}"] = depthwise_tile, dict(
                KERNEL=kernel, STRIDE=stride, PIXELS=NEON.longest_tile)
    return found


def assembly(function, cpu: str, constants: dict) -> str:
    """The assembly of one tile for one ARM64 processor. Raises RuntimeError if this LLVM can't compile for ARM64."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = TRIPLE
    _writer(function, NEON, constants)(module).linkage = "external"  # else LLVM removes it: nobody calls it
    parsed = llvm.parse_assembly(str(module))
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, opt=3, reloc="pic", codemodel="small",
                                                                    jit=True)
    parsed.data_layout = str(machine.target_data)
    for level in (0, 3):  # as in `CPUCodeLibrary._optimize_final_module` of numba.core.codegen
        builder = create_pass_builder(machine, opt=level, loop_vectorize=level > 0)
        passes = builder.getModulePassManager()
        if level == 0:
            passes.add_loop_rotate_pass()
            passes.add_instruction_combine_pass()
            passes.add_jump_threading_pass()
        passes.run(parsed, builder)
    return machine.emit_assembly(parsed)


def inner_loop(text: str) -> list[str]:
    """The instructions of the loop without inner branches that has the most FMAs, its branch back last."""
    loops, label, block = [[]], None, []
    for line in map(str.strip, text.splitlines()):
        if found := re.fullmatch(r"(\.L\w+):.*", line):
            label, block = found[1], []
        elif line and line[0] not in "./":  # neither a directive nor a comment
            block.append(line)
            if label and re.fullmatch(rf"(b\.\w+|cbn?z\s+\w+,)\s+{re.escape(label)}", line):
                loops.append(block)
                label, block = None, []
    return max(loops, key=lambda loop: sum(line.startswith("fmla") for line in loop))


def counts(loop: list[str]) -> dict[str, int]:
    """How many instructions of a loop are of the kinds that matter; a pair of loads counts as one."""
    names = Counter(line.split()[0] for line in loop)
    return {"FMAs": names["fmla"],
            "by lane": sum(line.startswith("fmla") and line.endswith("]") for line in loop),
            "loads": sum(count for name, count in names.items() if name.startswith("ld")),
            "splats": names["dup"] + sum(bool(re.match(r"ld\dr", line)) for line in loop),
            "spills": sum("[sp" in line for line in loop)}


def find_tool() -> str | None:
    """llvm-mca, the newest by its name."""
    names = [f"llvm-mca-{version}" for version in range(99, OLDEST - 1, -1)]
    return next(filter(None, map(shutil.which, [*names, "llvm-mca"])), None)


def version_of(tool: str) -> int:
    """The major version of an llvm-mca."""
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"LLVM version (\d+)", said)[1])


def cycles(tool: str, cpu: str, loop: list[str]) -> float:
    """The cycles of one iteration according to llvm-mca, without those of the start."""
    *body, back = loop
    text = "\n".join(["again:", *body, re.sub(r"\.L\w+$", "again", back), ""])

    def total(iterations):
        done = subprocess.run([tool, "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={iterations}"], input=text,
                              capture_output=True, text=True, check=True)
        return int(re.search(r"Total Cycles:\s+(\d+)", done.stdout)[1])

    return (total(2 * ITERATIONS) - total(ITERATIONS)) / ITERATIONS


def limit(tool: str, cpu: str) -> float:
    """The FMAs per cycle of one processor according to llvm-mca, with nothing else in the loop."""
    independent = [f"fmla v{chain}.4s, v30.4s, v31.s[0]" for chain in range(CHAINS)]
    return CHAINS / cycles(tool, cpu, [*independent, "b.ne .Lagain"])


def print_table(tool: str) -> None:
    print(f"PREDICTION by llvm-mca {version_of(tool)}, code by LLVM {llvm.llvm_version_info[0]} (llvmlite)\n")
    print(COLUMNS.format("processor", "tile", "FMAs", "by lane", "loads", "splats", "spills", "cycles", "FMAs/cycle",
                         "of limit"))
    for cpu in CPUS:
        most = limit(tool, cpu)
        for name, (function, constants) in tiles().items():
            loop = inner_loop(assembly(function, cpu, constants))
            found, taken = counts(loop), cycles(tool, cpu, loop)
            each = found["FMAs"] / taken
            print(COLUMNS.format(cpu, name, *found.values(), f"{taken:.1f}", f"{each:.2f}", f"{each / most:.1%}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llvm-mca", metavar="FILE", default=find_tool(),
                        help="the tool to simulate with (default: the newest on the PATH)")
    tool = parser.parse_args().llvm_mca
    remedy = f"get it from Debian with 'apt-get install llvm-{OLDEST}', or name one with --llvm-mca"
    if tool is None:
        sys.exit(f"llvm-mca is not installed: {remedy}")
    if version_of(tool) < OLDEST:
        sys.exit(f"{tool} is version {version_of(tool)}, and {OLDEST} or newer is needed: {remedy}")
    print_table(tool)


if __name__ == "__main__":
    main()
