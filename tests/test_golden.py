"""timm's logits, stored: what holds the network where torch is not installed."""
import numpy as np
import pytest
from live import logits, needs_timm, timm, torch
from make_golden import GOLDEN, SIZES, golden_input, golden_parameters
from tolerance import LOGITS, assert_close

from npefficient import architecture
from npefficient.model import Model
from npefficient.parameters import Source, Weights, check_parameters

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
    expected = np.load(GOLDEN)[variant]
    got = golden_model(variant, backend)(golden_input(SIZES[variant]))
    assert expected.std() > 0.1
    assert_close(got, expected, LOGITS)


@needs_timm
@pytest.mark.parametrize("variant", SIZES)
def test_golden_file_is_what_timm_says(variant):
    network = architecture.build(variant)
    model = timm.create_model(network.name).eval()
    parameters = golden_parameters(network.parameters())
    model.load_state_dict({name: torch.from_numpy(array) for name, array in parameters.items()}, strict=True)
    np.testing.assert_allclose(logits(model, golden_input(SIZES[variant])), np.load(GOLDEN)[variant], rtol=0, atol=1e-5)
