"""The machine code of the tiles for ARM64: no copies to all lanes, no spills. Needs llvmlite, but not llvm-mca."""
import re
import sys

import llvmlite.binding as llvm
import predict
import pytest
from layouts import NEON

POINTWISE = [name for name in predict.tiles() if name.startswith("pointwise")]


def loop_of(name, cpu):
    return predict.inner_loop(predict.assembly(*take(name, cpu)))


def take(name, cpu):
    function, constants = predict.tiles()[name]
    return function, cpu, constants


@pytest.fixture(autouse=True, scope="module")
def arm64():
    llvm.initialize_all_targets()
    try:
        llvm.Target.from_triple(predict.TRIPLE)
    except RuntimeError as error:
        pytest.skip(f"this llvmlite can't compile for ARM64: {error}")


def test_the_layout_is_that_of_every_arm64_processor(monkeypatch):
    from npefficient.kernels import processor

    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    assert predict.NEON == NEON and processor.vector_unit() == (NEON.lanes, NEON.registers)


@pytest.mark.parametrize("cpu", predict.CPUS)
@pytest.mark.parametrize("name", POINTWISE)
def test_a_pointwise_tile_multiplies_by_lanes_and_spills_nothing(name, cpu):
    pixels, vectors = map(int, name.split()[1].split("x"))
    found = predict.counts(loop_of(name, cpu))
    assert found["FMAs"] == found["by lane"] == pixels * vectors * NEON.unroll
    assert found["splats"] == found["spills"] == 0
    assert found["loads"] <= pixels + vectors * NEON.unroll  # each value once


@pytest.mark.parametrize("cpu", predict.CPUS)
@pytest.mark.parametrize("name", [name for name in predict.tiles() if name not in POINTWISE])
def test_a_depthwise_tile_spills_nothing(name, cpu):
    kernel = int(name.split()[1][0])
    found = predict.counts(loop_of(name, cpu))
    assert found["FMAs"] == kernel * kernel * NEON.longest_tile and found["splats"] == found["spills"] == 0


def test_a_tile_that_is_too_large_is_seen_to_spill():
    text = predict.assembly(predict.pointwise_tile, "neoverse-n1", dict(VECTORS=3, HALF=0, PIXELS=9))
    assert predict.counts(predict.inner_loop(text))["spills"] > 0


def test_the_loop_with_the_most_multiplications_is_counted():
    loop = ["ldp q0, q1, [x1], #32", "dup v2.4s, w3", "ld1r { v3.4s }, [x2]", "ldr s4, [x2]", "str q5, [sp, #16]",
            "ldr q5, [sp, #16]", "fmla v6.4s, v0.4s, v3.4s", "fmla v7.4s, v0.4s, v4.s[0]", "subs x4, x4, #1",
            "b.ne .LBB0_2"]
    text = "\n".join(["tile:", "fmla v0.4s, v1.4s, v2.4s", ".LBB0_1:  // a loop of one", "fmla v0.4s, v1.4s, v2.4s",
                      "b.ne .LBB0_1", *["fmla v0.4s, v1.4s, v2.4s"] * 3, ".LBB0_2:", ".p2align 4", *loop, "ret"])
    assert predict.inner_loop(text) == loop
    assert predict.counts(loop) == {"FMAs": 2, "by lane": 1, "loads": 4, "splats": 2, "spills": 2}


@pytest.fixture
def tool(tmp_path):
    """tool(version) -> a stand-in for llvm-mca: 50 cycles to start, then half a cycle for each instruction."""
    def make(version):
        script = tmp_path / "llvm-mca"
        script.write_text(f"""#!{sys.executable}
import re, sys
if "--version" in sys.argv:
    sys.exit(print("Debian LLVM version {version}.1.0"))
lines, text = sys.stdin.read().splitlines(), " ".join(sys.argv)
assert lines[0] == "again:" and lines[-1].split()[1:] == ["again"], lines
print("Total Cycles:     ", 50 + int(re.search("iterations=([0-9]+)", text)[1]) * (len(lines) - 1) // 2)
""")
        script.chmod(0o755)
        return str(script)

    return make


def test_cycles_are_those_of_an_iteration(tool):
    assert predict.cycles(tool(predict.OLDEST), "cortex-a72", ["nop", "nop", "b.ne .LBB0_4"]) == 1.5


def test_the_table_has_every_processor_and_tile(tool, capsys):
    predict.print_table(tool(predict.OLDEST))
    first, _, heading, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith(f"PREDICTION by llvm-mca {predict.OLDEST}, ") and heading.split()[0] == "processor"
    assert len(rows) == len(predict.CPUS) * len(predict.tiles())
    for row in rows:
        fmas, cycles, each, share = (float(re.sub("%", "", row.split()[i])) for i in (-8, -3, -2, -1))
        assert each == pytest.approx(fmas / cycles, abs=0.01)
        assert share == pytest.approx(100 * each * 12.5 / 24, rel=0.02)  # the limit: 24 FMAs and a branch


@pytest.mark.parametrize("version, message", [
    (None, "llvm-mca is not installed: get it from Debian with 'apt-get install llvm-19'"),
    (14, "llvm-mca is version 14, and 19 or newer is needed: get it from Debian")])
def test_without_a_recent_llvm_mca_it_says_where_to_get_one(monkeypatch, tool, version, message):
    monkeypatch.setattr(sys, "argv", ["predict.py"])
    monkeypatch.setattr(predict, "find_tool", lambda: version and tool(version))
    with pytest.raises(SystemExit, match=message):
        predict.main()
