"""What the processor is, by its architecture, by the system's file where there is one, and otherwise by LLVM."""
import platform
import re
import sys

import pytest

from npefficient.errors import ArgumentError
from npefficient.kernels import processor

CPUINFO = """processor\t: 0
vendor_id\t: SomeVendor
cpu family\t: 25
model\t\t: 17
model name\t: Some CPU
stepping\t: 1
cpu MHz\t\t: 2596.1
flags\t\t: fpu sse2 fma avx2 {more}
bogomips\t: 5192.30

processor\t: 1
vendor_id\t: SomeVendor
flags\t\t: fpu
"""


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """cpuinfo(text) puts a text in the place of the system's file, on x86; what the environment asks for is taken away.
    """
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    return (tmp_path / "cpuinfo").write_text


@pytest.mark.parametrize("more, expected", [("", (8, 16)), ("avx512f avx512vl", (16, 32)), ("avx512f", (8, 16))])
def test_vector_unit_by_the_flags_of_the_first_core(cpuinfo, more, expected):
    cpuinfo(CPUINFO.format(more=more))
    assert processor.vector_unit() == expected


def test_vector_unit_needs_multiply_add(cpuinfo):
    cpuinfo(CPUINFO.format(more="").replace(" fma", ""))
    assert processor.vector_unit() == (4, 16)


@pytest.mark.parametrize("text", ["", "Features\t: fp asimd\nCPU part\t: 0xd0c\n"], ids=["no_file", "not_x86"])
def test_elsewhere_llvm_is_asked(cpuinfo, monkeypatch, text):
    if text:
        cpuinfo(text)
    monkeypatch.setattr(processor, "_host_features", lambda llvm: "+avx2,+fma,-avx512f")
    assert processor.vector_unit() == (8, 16)
    assert "+avx2,+fma,-avx512f" in processor.identity()


@pytest.mark.parametrize("machine, expected", [
    ("aarch64", ("NEON", 4, 32)), ("arm64", ("NEON", 4, 32)), ("ARM64", ("NEON", 4, 32)),
    ("ppc64le", ("128 bit", 4, 16)), ("s390x", ("128 bit", 4, 16)), ("", ("128 bit", 4, 16))])
def test_another_architecture_has_vectors_of_its_own(cpuinfo, monkeypatch, machine, expected):
    """The system's file is ignored: under emulation it is another machine's, and it has no name of the processor."""
    cpuinfo(CPUINFO.format(more="avx512f avx512vl"))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "_host_features", lambda llvm: "+sve,-aes")
    assert processor.vector_units() == [expected] and processor.vector_unit() == expected[1:]
    found = processor.identity()
    assert machine.lower() in found and "+sve,-aes" in found and "SomeVendor" not in str(found)


@pytest.mark.parametrize("built_for, expected", [("AMD64", [("no FMA", 4, 16)]), ("ARM64", [("NEON", 4, 32)])])
def test_python_on_windows_is_of_the_architecture_it_was_built_for(cpuinfo, monkeypatch, built_for, expected):
    """Windows for ARM64 emulates x86-64 and names its own processor all the same."""
    monkeypatch.setattr(platform, "machine", lambda: "ARM64")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "version", f"3.12.4 (tags/v3.12.4:8e8a4ba, Jun  6 2024) [MSC v.1940 64 bit ({built_for})]")
    monkeypatch.setattr(processor, "_host_features", lambda llvm: "+sse2")
    assert processor.vector_units() == expected and built_for.lower() in processor.identity()


@pytest.mark.parametrize("system", ["win32", "darwin", "freebsd14"])
def test_file_about_the_processor_is_linux_s_alone(cpuinfo, monkeypatch, system):
    """Elsewhere it would be a file that anybody may have put there."""
    cpuinfo(CPUINFO.format(more="avx512f avx512vl"))
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(processor, "_host_features", lambda llvm: "+avx2,+fma")
    assert processor.vector_unit() == (8, 16) and "SomeVendor" not in str(processor.identity())


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "i686", "x86"])
@pytest.mark.parametrize("features, expected", [
    ("+sse2", [("no FMA", 4, 16)]), ("+avx,+avx2", [("no FMA", 4, 16)]), ("+fma,-avx2", [("128 bit", 4, 16)]),
    ("+avx2,+fma", [("128 bit", 4, 16), ("AVX2", 8, 16)]),
    ("+avx2,+fma,+avx512f,-avx512vl", [("128 bit", 4, 16), ("AVX2", 8, 16)]),
    ("+avx512f,+avx512vl", [("128 bit", 4, 32), ("AVX2", 8, 32), ("AVX-512", 16, 32)])])
def test_vector_units_of_x86_by_llvms_features(cpuinfo, monkeypatch, machine, features, expected):
    """The narrower ones as well: AVX-512 with 512VL gives them all 32 registers, and implies FMA and AVX2."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "_host_features", lambda llvm: features)
    assert processor.vector_units() == expected and processor.vector_unit() == expected[-1][1:]


def test_the_environment_goes_before(cpuinfo, monkeypatch):
    """As in Numba: features alone or with a name; a generic processor has none."""
    cpuinfo(CPUINFO.format(more="avx512f avx512vl"))
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+fma,+avx2,-avx512f")
    assert processor.vector_unit() == (8, 16) and processor.target()[1] == "+fma,+avx2,-avx512f"
    monkeypatch.delenv("NUMBA_CPU_FEATURES")
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert processor.vector_unit() == (4, 16) and processor.target() == ("generic", "")


@pytest.mark.parametrize("old, new, same", [
    ("vendor_id\t: Some", "vendor_id\t: Other", False), ("family\t: 25", "family\t: 26", False),
    ("model\t\t: 17", "model\t\t: 1", False), ("stepping\t: 1", "stepping\t: 2", False), ("avx2", "avx2 vaes", False),
    ("2596.1", "3400.0", True), ("5192", "5193", True)])
def test_identity_changes_with_what_code_depends_on(cpuinfo, old, new, same):
    """The clock rate is measured anew at each start, and must not count."""
    text = CPUINFO.format(more="")
    assert old in text
    cpuinfo(text)
    before = processor.identity()
    cpuinfo(text.replace(old, new, 1))
    assert (processor.identity() == before) == same


def test_identity_changes_with_the_environment(cpuinfo, monkeypatch):
    cpuinfo(CPUINFO.format(more=""))
    before = processor.identity()
    monkeypatch.setenv("NUMBA_CPU_NAME", "znver3")
    assert processor.identity() != before


def test_host_features_of_a_platform_that_can_not_tell():
    class Silent:
        @staticmethod
        def get_host_cpu_features():
            raise RuntimeError("not supported")

    assert processor._host_features(Silent) == ""


@pytest.mark.parametrize("features", ["avx2", "+avx2,fma", "+avx2, +fma", "+", "+avx2,", ","])
def test_features_that_would_end_the_process_are_refused(monkeypatch, features):
    monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
    with pytest.raises(ArgumentError, match=rf"NUMBA_CPU_FEATURES={re.escape(repr(features))}: .*'\+avx2,\+fma'"):
        processor.target()


@pytest.mark.parametrize("architecture, lanes, having, expected", [
    ("x86_64", 16, {"avx512_vnni"}, True), ("x86_64", 16, {"avx512vnni"}, True), ("x86_64", 16, {"avx_vnni"}, False),
    ("x86_64", 8, {"avx_vnni"}, True), ("amd64", 8, {"avxvnni"}, True), ("x86_64", 8, {"avx512_vnni"}, False),
    ("x86_64", 4, {"avx_vnni", "avx512_vnni"}, False), ("x86_64", 16, {"avx512f"}, False),
    ("aarch64", 4, {"asimddp"}, False),
])
def test_dot_products_are_those_of_the_widest_vectors(monkeypatch, architecture, lanes, having, expected):
    """By Linux's names of the features or by LLVM's."""
    monkeypatch.setattr(processor, "_architecture", lambda: architecture)
    monkeypatch.setattr(processor, "vector_unit", lambda: (lanes, 32))
    monkeypatch.setattr(processor, "features", lambda: having)
    assert processor.has_dot_products() is expected


@pytest.mark.parametrize("lanes, having, expected", [
    (16, {"avx512_vnni"}, True), (8, {"avx512_vnni", "avx512vl"}, True), (8, {"avx512vnni", "avx512vl"}, True),
    (8, {"avx512_vnni"}, False), (8, {"avx_vnni"}, True), (16, {"avx_vnni", "avx512vl"}, False),
    (4, {"avx_vnni", "avx512_vnni", "avx512vl"}, False)])
def test_dot_products_of_narrower_vectors(monkeypatch, lanes, having, expected):
    """AVX-512 has those of 8 lanes with 512VL alone."""
    monkeypatch.setattr(processor, "_architecture", lambda: "x86_64")
    monkeypatch.setattr(processor, "features", lambda: having)
    assert processor.has_dot_products(lanes) is expected
