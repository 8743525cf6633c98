"""The trained weights that `train` and `finetune` start from, named in each way."""
import numpy as np
import pytest
from class_photos import save_classes
from small import small_weights

import npefficient
from npefficient import hub
from npefficient.errors import ArgumentError, WeightsError
from npefficient.model.loading import weights_to_train
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The variants whose official weights are asked for; small random ones stand in for them."""
    names = []

    def pretrained(name):
        names.append(name)
        return tmp_path / "official.h5"

    write_weights(tmp_path / "official.h5", small_weights(seed=1))
    monkeypatch.setattr(hub, "pretrained", pretrained)
    monkeypatch.chdir(tmp_path)
    return names


@pytest.mark.parametrize("model, weights", [
    (None, None), ("lite0", None), (None, "lite0"), ("lite0", LITE0), (None, "hf-hub:timm/tf_efficientnet_lite0.in1k")])
def test_official_weights(asked, model, weights):
    got = weights_to_train(model, weights)
    assert asked == [LITE0]
    assert np.array_equal(got.parameters["conv_stem.weight"], small_weights(seed=1).parameters["conv_stem.weight"])


@pytest.mark.parametrize("model", [None, "lite0"])
@pytest.mark.parametrize("name", ["lite0.h5", "lite0.hdf5", "mine.h5"])
def test_a_file_may_begin_with_the_name_of_a_model(asked, model, name):
    write_weights(name, small_weights())
    got = weights_to_train(model, name)
    assert not asked and got.source.name == "seed 0"
    assert weights_to_train(model, got) is got


def test_what_is_neither_a_file_nor_a_model(asked):
    for name in ("lite9", "lite0.h5", "nothing"):
        with pytest.raises(WeightsError, match=f"'{name}'.*there is no such file"):
            weights_to_train(None, name)
    for model, weights in (("lite9", None), ("lite9", small_weights()), ("", None)):
        with pytest.raises(ArgumentError, match=f"unknown model '{model}'"):
            weights_to_train(model, weights)
    assert not asked


def test_another_model(asked):
    with pytest.raises(ArgumentError, match=f"model 'lite1' from 'seed 0', which is {LITE0}: leave the model out"):
        weights_to_train("lite1", small_weights())
    with pytest.raises(ArgumentError, match=f"model 'lite1' from 'seed 1', which is {LITE0}: leave"):
        weights_to_train("lite1", "lite0")


@pytest.mark.parametrize("wishes, text", [({"in_chans": 4}, "4 input channels can't take photos"),
                                          ({"global_pool": "", "num_classes": 0}, "with the pool ''")])
def test_networks_of_no_use(wishes, text):
    with pytest.raises(ArgumentError, match=text):
        weights_to_train(None, random_weights(architecture.build("lite0", **({"num_classes": 5} | wishes))))


def test_finetune_takes_a_name(asked, tmp_path):
    save_classes(tmp_path / "photos", red=4, blue=4)
    got = npefficient.finetune("photos", weights="lite0", cache=False)
    assert asked == [LITE0] and got.weights.source.name.startswith("seed 1, classifier fitted")
