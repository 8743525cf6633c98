"""What a run starts from: which parts of trained weights it keeps."""
import dataclasses

import numpy as np
import pytest
from small import small_weights

from npefficient.training.start import starting_weights

LABELS = ("a", "b", "c", "d", "e")


def changed(got, base):
    """Names of the parameters that are not those of the weights."""
    return {name for name, array in base.parameters.items() if not np.array_equal(array, got.parameters[name])}


@pytest.mark.parametrize("own, new", [(LABELS, False), (("a", "b", "c", "e", "d"), True), (None, True)],
                         ids=["same", "another order", "none"])
def test_the_classifier_is_kept_for_the_same_classes_alone(own, new):
    base = dataclasses.replace(small_weights(), labels=own)
    got = starting_weights(None, base, list(LABELS), 0)
    assert changed(got, base) == ({"classifier.weight"} if new else set())  # the bias is 0 in both
    assert got.labels == LABELS and got.preprocessing == base.preprocessing
    assert got.architecture.num_classes == 5 and got.source.kind.startswith(base.source.kind)


def test_float16_weights_are_trained_in_float32():
    base = dataclasses.replace(small_weights(), labels=LABELS, parameters={
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in small_weights().parameters.items()})
    got = starting_weights(None, base, LABELS, 0)
    assert not changed(got, base)
    assert {array.dtype for array in got.parameters.values()} == {np.dtype(np.float32), np.dtype(np.int64)}


def test_the_seed_draws_what_is_random():
    one, again, other = (starting_weights("lite0", "nothing", LABELS, seed) for seed in (0, 0, 1))
    assert not changed(one, again) and {"conv_stem.weight", "classifier.weight"} <= changed(one, other)
    assert (one.parameters["classifier.bias"] == 0).all() and one.source.kind == "random"
