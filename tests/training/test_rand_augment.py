"""timm's configurations of RandAugment are read as timm reads them, and nonsense is refused."""
import math

import numpy as np
import pytest
from live import needs_timm

from npefficient.errors import ArgumentError
from npefficient.training.operations import ARGUMENTS, GEOMETRIC
from npefficient.training.rand_augment import INCREASING, PLAIN, SETS, WITHOUT_REPLACEMENT, parse_rand_augment

CONFIGS = ["rand", "rand-m9-mstd0.5", "rand-m9-mstd0.5-inc1", "rand-n3-p0.25-m15-mmax20", "rand-mstd101-tweights",
           "rand-inc1-m1-mstd100", "rand-t3a-m6-n1", "rand-m7-t3aw-n14-p1.0", "rand-inc0-n20-mstd2",
           "rand-tweights-inc1"]


@needs_timm
@pytest.mark.parametrize("text", CONFIGS)
def test_a_configuration_is_read_as_timm_reads_it(text):
    from timm.data.auto_augment import rand_augment_transform

    got, expected = parse_rand_augment(text), rand_augment_transform(text)
    assert got.operations == tuple(op.name for op in expected.ops) and got.n == expected.num_layers
    for op in expected.ops:
        assert (got.m, got.p, got.mstd) == (op.magnitude, op.prob, op.magnitude_std)
        assert got.mmax == (op.magnitude_max or 10)
    assert (got.t in WITHOUT_REPLACEMENT) == (expected.choice_weights is not None)
    if got.t in WITHOUT_REPLACEMENT:
        weights = np.array(list(SETS[got.t].values()))
        np.testing.assert_array_equal(weights / weights.sum(), expected.choice_weights)


def test_every_operation_is_in_a_set():
    assert {*PLAIN, *INCREASING}.union(*SETS.values()) == set(ARGUMENTS)
    assert len(PLAIN) == len(INCREASING) == 15 and "PosterizeIncreasing" in INCREASING and "Rotate" in INCREASING


@pytest.mark.parametrize("text, what", [
    ("", "starts with ''"), ("augmix-m3", "starts with 'augmix'"), ("original-mstd0.5", "starts with 'original'"),
    ("v0", "only RandAugment is known"), ("rand-", "section ''"), ("rand-m", "section 'm'"), ("rand-m9.5", "'m9.5'"),
    ("rand-m-9", "section 'm'"), ("rand-mstd", "section 'mstd'"), ("rand-minf", "section 'minf'"),
    ("rand-m9-m8", "section 'm8'"), ("rand-w0", "section 'w0'"), ("rand-q3", "section 'q3'"), ("rand-t", "section 't'"),
    ("rand-tnone", "set of operations 'none'"), ("rand-t3", "set of operations '3'"), ("rand-m9-p1.5", "p1.5"),
    ("rand-inc2", "inc2"), ("rand-mmax0", "mmax0"), ("rand-n0", "n0; the number of operations must be from 1 to 100"),
    ("rand-n101", "n101"), ("rand-n16-tweights", "n16; .* from 1 to 15"), ("rand-m1234567890", "section 'm1234567890'"),
    ("rand-m９", "section 'm９'"), ("rand m9", "starts with 'rand m9'"),
], ids=str)
def test_a_configuration_without_meaning_is_refused(text, what):
    with pytest.raises(ArgumentError, match=f"RandAugment '{text}': .*{what}"):
        parse_rand_augment(text)


def drawn(text, count=400, filters=("bilinear", "bicubic")):
    config = parse_rand_augment(text)
    return [config.draw(np.random.default_rng(seed), filters) for seed in range(count)]


def test_draws_by_hand():
    every = drawn("rand-n3-p1-m9")
    assert {len(operations) for operations in every} == {3}
    rotations = [op for operations in every for op in operations if op.name == "Rotate"]
    assert {op.argument for op in rotations} == {27.0, -27.0}
    assert {op.interpolation for op in rotations} == {"bilinear", "bicubic"}
    assert all((op.interpolation is None) == (op.name not in GEOMETRIC) for operations in every for op in operations)
    assert {op.argument for operations in every for op in operations if op.name == "Invert"} == {None}
    for operations in drawn("rand-n15-p1-tweights", 20):
        assert sorted(op.name for op in operations) == sorted(SETS["weights"])  # none of them twice
    assert {len(operations) for operations in drawn("rand-n2")} == {0, 1, 2}


def test_magnitudes_are_clipped():
    arguments = [op.argument for operations in drawn("rand-m10-mstd5-p1-n9") for op in operations if op.name == "Color"]
    assert max(arguments) == 1.8 + 0.1 and min(arguments) >= 0.1 and len(set(arguments)) > 100
    uniform = [op.argument for operations in drawn("rand-m5-mstd101-p1-n9") for op in operations if op.name == "Color"]
    assert 0.1 < min(uniform) < 0.2 and 0.9 < max(uniform) < 1.0
    assert math.isinf(parse_rand_augment("rand-mstd101").mstd) and parse_rand_augment("rand-mstd100").mstd == 100
