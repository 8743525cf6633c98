"""What is counted in machine code, in both syntaxes, and what the compiler makes of the rungs here."""
import numpy as np
import pytest
from kernel_calls import LANES

from npefficient.kernels.processor import features, is_x86
from npefficient.ladder.case import Case, Folded
from npefficient.ladder.machine_code import Loop, loop_of
from npefficient.ladder.registry import LADDERS

X86 = """
other:
.LBB0_1:
	vmulss	(%rax,%rcx,4), %xmm1, %xmm2
	vaddss	%xmm2, %xmm0, %xmm0
	jne	.LBB0_1
	retq
wanted:
	vmovups	(%rdi), %zmm0
.LBB1_1:
	xorl	%ecx, %ecx
.LBB1_2:
	vmovups	(%rax,%rcx,4), %zmm1    # a comment
	vfmadd213ps	64(%rbp,%rcx,4), %zmm0, %zmm1
	vfmadd231ps	(%rbp){1to16}, %zmm0, %zmm2
	prefetcht0	(%rbp)
	leaq	8(%rax), %rax
	vmovups	%zmm1, (%rbp,%rcx,4)
	movq	%rcx, 8(%rsp)
	jne	.LBB1_2
	decq	%rdi
	jne	.LBB1_1
	retq
"""
ARM = """
tile:
	ldr	q9, [x3]
.LBB0_1:
	ldp	q0, q1, [x0], #32
	ldr	q2, [x1, #16]
	ldr	x9, [x2]
	fmla	v4.4s, v0.4s, v2.s[0]
	fmla	v5.4s, v1.4s, v2.s[0]    // a comment
	fadd	v6.4s, v6.4s, v4.4s
	str	q4, [x5]
	subs	x8, x8, #1
	b.ne	.LBB0_1
	ret
"""


def test_the_innermost_loop_is_read():
    found = loop_of(X86)
    assert found == loop_of(X86, "wanted")
    assert (found.lanes, found.multiplications, found.fused, found.loads, found.stores) == (16, 2, True, 3, 1)
    assert found.memory == 2.0 and len(found.lines) == 8


def test_the_loop_of_one_function_is_read():
    found = loop_of(X86, "other")
    assert (found.lanes, found.multiplications, found.fused, found.loads, found.stores) == (1, 1, False, 1, 0)


def test_arm64_is_read():
    found = loop_of(ARM)
    assert (found.lanes, found.multiplications, found.fused, found.loads, found.stores) == (4, 2, True, 3, 1)


def test_half_of_the_lanes_count():
    assert loop_of(X86.replace("zmm", "ymm")).lanes == 8 and loop_of(ARM.replace(".4s", ".2s")).lanes == 2


@pytest.mark.parametrize("text, kernel", [("", None), ("f:\n\tretq\n", None), (X86, "absent"),
                                          ("f:\n.L1:\n\taddq $1, %rax\n\tjne .L1\n", None),
                                          ("f:\n\tvmulss %xmm0, %xmm1, %xmm2\n", None)])
def test_without_a_loop_that_multiplies_nothing_is_read(text, kernel):
    assert loop_of(text, kernel) is None


WITH_COST = [rung for rung in LADDERS["pointwise"] if rung.cost]


def loop_here(rung) -> Loop:
    weight = np.ones((6 * LANES, 8, 1, 1), np.float32)
    ready = rung.prepare(Case("pointwise", np.ones((2, 8, 8), np.float32), (Folded(weight, weight[:, 0, 0, 0]),)))
    ready.call()
    text = next(iter(ready.function.inspect_asm().values()))  # other tests may have compiled it for other arrays, too
    return loop_of(text, rung.cost.kernel)


@pytest.mark.skipif(not is_x86() or "fma" not in features(), reason="x86-64 with FMA")
@pytest.mark.parametrize("rung", WITH_COST, ids=lambda rung: rung.name)
def test_a_rung_costs_what_it_says(rung):
    """The compiler may make narrower vectors of loops, and where registers are few it keeps values in memory: then
    there are more loads and stores, never fewer."""
    found = loop_here(rung)
    assert found.fused == rung.cost.fused
    assert found.lanes == rung.cost.lanes or rung.name == "lanes over channels" and 1 < found.lanes < rung.cost.lanes
    assert found.memory >= rung.cost.loads + rung.cost.stores - 1e-9


def test_every_compiled_rung_of_a_pointwise_convolution_says_what_it_costs():
    assert [rung.name for rung in LADDERS["pointwise"] if not rung.cost] == ["plain loops"]
    assert all(rung.code for rung in LADDERS["pointwise"])
