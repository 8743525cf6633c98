"""timm's logits in float64, stored: they check the network where torch is not installed."""
import numpy as np
import pytest
from live import logits, needs_timm
from make_golden import GOLDEN, SIZES, golden_input, golden_parameters, golden_timm
from tolerance import LOGITS, assert_close

from npefficient.model.model import Model
from npefficient.network import architecture
from npefficient.network.parameters import Source, Weights, check_parameters

SOURCE = Source("golden", "", "random")


def golden_model(variant, backend):
    network = architecture.build(variant)
    parameters = golden_parameters(network.parameters())
    check_parameters(parameters, network)
    weights = Weights(network, parameters, network.variant.preprocessing, None, SOURCE)
    return Model(weights, backend=backend, num_threads=2)


@pytest.mark.parametrize("backend", ["engine", "reference"])
@pytest.mark.parametrize("variant", SIZES)
def test_golden_logits(variant, backend):
    expected = np.load(GOLDEN)[variant].astype(np.float32)
    got = golden_model(variant, backend)(golden_input(SIZES[variant]))
    assert expected.std() > 0.1
    assert_close(got, expected, LOGITS)


@needs_timm
@pytest.mark.parametrize("variant", SIZES)
def test_golden_file_is_what_timm_says(variant):
    """In float64 on any processor; timm's float32 is held to the same tolerance as ours."""
    expected, x, model = np.load(GOLDEN)[variant], golden_input(SIZES[variant]), golden_timm(variant)
    assert_close(logits(model, x), expected.astype(np.float32), LOGITS)
    got = logits(model.double(), x.astype(np.float64))
    assert got.dtype == expected.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)
