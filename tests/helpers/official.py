"""A weight file that passes for the official one, in place of what `pretrained=True` would fetch."""
import numpy as np
import pytest
from PIL import Image

import npefficient
from npefficient.network.architecture import build
from npefficient.network.parameters import Source, Weights, random_weights
from npefficient.weights.weight_file import write_weights

OFFICIAL = Source("official.pth", "0aa007d2" + "0" * 56, "torch-zip")


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A weight file that passes for the official one of lite0."""
    path, made = tmp_path_factory.mktemp("create") / "official.h5", random_weights(build("lite0"))
    write_weights(path, Weights(made.architecture, made.parameters, made.preprocessing, None, OFFICIAL))
    return path


@pytest.fixture
def fetched(official, monkeypatch):
    """pretrained=True gives it; the names that were asked for."""
    from npefficient import hub

    asked = []
    monkeypatch.setattr(hub, "pretrained", lambda name: asked.append(name) or official)
    return asked


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))


def create(*arguments, **options):
    return npefficient.create_model(*arguments, num_threads=1, **options)
