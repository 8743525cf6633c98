"""The promise: the engine's logits are the same to the last bit on every processor.

The stored bits were the same with AVX-512, AVX2, SSE2 (where a library computes the fused multiply-adds) and NEON.
This processor's widest vectors and all narrower ones are tried here, and `tests/arm64/python` runs this file on ARM64.
A sum in a different order changes the bits, which other tests may not detect: CHANGELOG.md must then mention it.
"""
import functools
from pathlib import Path

import numpy as np
import pytest
from fresh import run
from golden_weights import weights
from imagenet import fingerprint, needs_imagenet, official
from make_golden import golden_input

from npefficient import demo
from npefficient.kernels.layout import FLOAT32
from npefficient.model.model import Model
from npefficient.weights.weight_file import read_weights

HERE = Path(__file__)
SIZE = (47, 64)  # rows and columns that give partial tiles, rows and panels
PICTURES = np.concatenate([golden_input(SIZE, seed) for seed in range(3)])
THREADS = pytest.mark.parametrize("threads", [1, 2])

EXPECTED = {
    "official lite0": "e716420894d91072e06f78fc10443af5c39c68fdb223b9fdaad6d38c3081a84e",
    "digits": "23ce71ebd203243c1807f53acaf96ae3a8059c959bc0c1e8c1dc708b77e9088a",
    "lite0": "efc5361885e5dc3e613042a041f9173304fdf30e1fa125aadd40aad22f9cc749",
    "lite4": "d7e7573185ad0e3eb3c9ad09da05d9d5d781fa639b12bb7e863a468cbf21c42f",
}
NARROWER = {8: "+avx2,+fma", 4: "+sse2"}  # lanes -> features of an x86 processor with such vectors


@functools.cache
def network(name):
    return read_weights(demo.weights_path()) if name == "digits" else weights(name)


def model(name, threads):
    if name == "official lite0":
        return official("lite0", threads)
    return Model(network(name), backend="engine", num_threads=threads)


def check(name, threads):
    """Each picture alone, then all of them in one batch."""
    compute = model(name, threads)
    alone = np.concatenate([compute(picture[None]) for picture in PICTURES])
    assert alone.std() > 0.1 and (alone[0] != alone[1]).any()
    assert fingerprint(alone) == EXPECTED[name]
    assert fingerprint(compute(PICTURES)) == EXPECTED[name]


@THREADS
@pytest.mark.parametrize("name", ["digits", "lite0", "lite4"])
def test_logits_have_the_bits_of_every_processor(name, threads):
    check(name, threads)


@needs_imagenet
@THREADS
def test_logits_of_the_official_weights_have_the_bits_of_every_processor(threads):
    check("official lite0", threads)


@pytest.mark.skipif(FLOAT32.lanes == 4, reason="narrower vectors: this processor has none")
@pytest.mark.parametrize("lanes", [lanes for lanes in NARROWER if lanes < FLOAT32.lanes])
def test_narrower_vectors_give_the_same_bits(lanes):
    """The narrower vectors of older processors: this file runs in a separate process that compiles for one."""
    script = f"""
import sys
import pytest
from npefficient.kernels.layout import FLOAT32
print("lanes:", FLOAT32.lanes)
sys.exit(pytest.main(["-q", "-k", "bits_of_every_processor", {str(HERE)!r}]))
"""
    said = run(script, timeout=600, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=NARROWER[lanes])
    assert f"lanes: {lanes}\n" in said and " passed" in said
