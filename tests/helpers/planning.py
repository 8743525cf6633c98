"""Plans for tests: any size, any number of threads, and the planner's own constants drawn as well."""
import contextlib
from unittest import mock

from golden_weights import packed
from hypothesis import example, given, settings
from hypothesis import strategies as st

from npefficient.engine import plan as plan_module
from npefficient.engine.plan import make_plan
from npefficient.network.architecture import build

SHORT = [f"lite{i}" for i in range(5)]

# What the planner is free to choose, from a row, a pixel or a chunk at a time to everything at once.
freedom = st.fixed_dictionaries({
    "SCRATCH": st.sampled_from([1, 10_000, 192 << 10, 1 << 30]),
    "PIXELS_AT_ONCE": st.sampled_from([1, 10_000, 256 << 10, 1 << 30]),
    "PIXELS_PER_PART": st.sampled_from([1, 7, 24, 1000]),
    "CHUNKS": st.sampled_from([1, 2, 5]),
})
threads = st.sampled_from([1, 2, 3, 8])
shapes = st.tuples(st.sampled_from(SHORT), st.integers(1, 300), st.integers(1, 300), threads, st.booleans())


def any_shape(examples):
    """A test over drawn variants, sizes and threads, fused or not, and always over the extreme ones."""

    def decorate(test):
        for corner in (("lite0", 1, 1, 1, True), ("lite4", 300, 300, 8, True), ("lite2", 1, 300, 2, False),
                       ("lite3", 300, 1, 3, True), ("lite1", 225, 225, 2, False)):
            test = example(corner)(test)
        return settings(max_examples=examples, deadline=None)(given(shapes)(test))

    return decorate


@contextlib.contextmanager
def free(choices):
    """Let the planner work with these constants in place of its own."""
    with contextlib.ExitStack() as stack:
        for name, value in choices.items():
            stack.enter_context(mock.patch.object(plan_module, name, value))
        yield


def plan_of(short, height, width, threads=1, fused=True, classes=1000, colours=3, choices=None):
    """fused: a depthwise step also runs the layer before it; otherwise each layer is a step, and its map is kept."""
    with free(choices or {}):
        return make(build(short, classes, colours), packed(short, classes, colours), height, width, threads, fused)


def make(network, weights, height, width, threads=1, fused=True):
    """The same for packed weights of any kind."""
    keep = frozenset() if fused else frozenset(layer.name for layer in network.layers(height, width))
    return make_plan(network, weights, height, width, threads, keep)


def logits_of(plan):
    """The offset of the logits in the arena."""
    return plan.outputs["classifier"].offset


def name_of(plan, i):
    """A step goes by its last layer's name."""
    return plan.layers[i][-1].name


def step_named(plan, name):
    return plan.steps[[layers[-1].name for layers in plan.layers].index(name)]
