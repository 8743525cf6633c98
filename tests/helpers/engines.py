"""Engines for tests: seeded weights, inputs, and runs on plans and buffers of one's own."""
import contextlib
import functools
from unittest import mock

import numpy as np

from npefficient.engine import engine as engine_module
from npefficient.engine import pack as pack_module
from npefficient.engine import workers as workers_module
from npefficient.engine.engine import Buffers, Engine, Run
from npefficient.network import architecture, reference
from npefficient.network.parameters import random_weights


@functools.cache
def weights(variant="lite0", num_classes=1000, in_chans=3):
    return random_weights(architecture.build(variant, num_classes, in_chans))


@functools.cache
def network(*which):
    """The plain network."""
    w = weights(*which)
    return reference.Network(w.architecture, w.parameters)


@functools.cache
def engine(variant, threads, *which):
    return Engine(weights(variant, *which), threads)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def shape_id(shape):
    return "x".join(map(str, shape))


def run_plan(engine, plan, threads, picture):
    """The logits of one picture (H, W, C), computed on the plan given instead of one of the engine's own."""
    run = Run(Buffers(plan), engine.packed, picture)
    engine.share([run], threads)
    return logits(run)


def logits(run):
    """A copy of the logits that a run has computed, (num_classes,)."""
    out = np.empty(run.plan.outputs["classifier"].shape, np.float32)
    run.read("classifier", out)
    return out.ravel()


def assert_same_bits(got, expected):
    np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


@contextlib.contextmanager
def memory_from(aligned):
    """The engine and its workers take all memory from `aligned(size)`; the workers are new ones, and end with this."""
    pool = workers_module.WorkerPool()
    with contextlib.ExitStack() as stack:
        for module in (engine_module, pack_module, workers_module):
            stack.enter_context(mock.patch.object(module, "aligned", aligned))
        stack.enter_context(mock.patch.object(workers_module, "pool", pool))
        stack.callback(pool.stop)
        yield pool
