"""Fixtures: stand-in official weights, and a photo."""
import numpy as np
import pytest
from official import OFFICIAL
from PIL import Image

from npefficient.network.architecture import build
from npefficient.network.parameters import Weights, random_weights
from npefficient.weights.weight_file import write_weights


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A weight file that stands in for the official one of lite0."""
    path, made = tmp_path_factory.mktemp("create") / "official.h5", random_weights(build("lite0"))
    write_weights(path, Weights(made.architecture, made.parameters, made.preprocessing, None, OFFICIAL))
    return path


@pytest.fixture
def fetched(official, monkeypatch):
    """Makes pretrained=True load it; returns the list of names that were requested."""
    from npefficient import hub

    asked = []
    monkeypatch.setattr(hub, "pretrained", lambda name: asked.append(name) or official)
    return asked


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
