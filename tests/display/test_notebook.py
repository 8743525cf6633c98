"""What notebooks show: tables and pictures that need no script, and names that stay text."""
import re

import pytest
from explanations import HOSTILE, digit, digits, renamed
from page_reader import Reader

import npefficient
from npefficient.display.notebook import model_html
from npefficient.network import architecture
from npefficient.network.stages import by_stage


@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_model_shows_its_stages(variant):
    model = npefficient.create_model(variant, num_classes=7)
    read = Reader(model._repr_html_())
    network = model.architecture
    stages = list(by_stage(network, network.layers(*model.preprocessing.input_size)))
    assert len(read.all("tr")) == len(stages) + 2 and repr(model) in read.text
    for stage in stages:
        assert f"{stage.name} {stage.operator}" in read.text and f"{stage.params:,} {stage.macs:,}" in read.text
    assert f"whole network {network.param_count():,} {network.macs(*model.preprocessing.input_size):,}" in read.text


def test_model_without_classifier_or_pool():
    read = Reader(npefficient.create_model("lite0", num_classes=0, global_pool="")._repr_html_())
    assert "conv_head" in read.text and "classifier" not in read.text.replace("0 classes", "")


def test_explanation_shows_a_picture_for_each_class():
    read = Reader(digit("three")._repr_html_())
    images = read.all("img")
    assert len(images) == 6 and len({image["src"] for image in images}) == 6
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in images)
    assert "three 92.8 %" in read.text and not read.all("script")


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_stay_text(name):
    usual = [tag for tag, _ in Reader(digit("three")._repr_html_()).tags]
    assert [tag for tag, _ in Reader(renamed(digit("three"), name, name)._repr_html_()).tags] == usual


def test_hostile_weight_file_stays_text():
    class Stranger:
        architecture, preprocessing = digits().architecture, digits().preprocessing

        def __repr__(self):
            return HOSTILE["script"]

    assert "<script>" not in model_html(Stranger()) and "&lt;script&gt;" in model_html(Stranger())


def test_stages_add_up():
    network = architecture.build("lite1", 9)
    stages = list(by_stage(network, network.layers(64, 64)))
    assert sum(stage.params for stage in stages) == network.param_count()
    assert sum(stage.macs for stage in stages) == network.macs(64, 64)
    assert [stage.name for stage in stages] == ["conv_stem", *(f"blocks.{i}" for i in range(7)), "conv_head",
                                                "global_pool", "classifier"]
    assert re.fullmatch(r"\d x inverted residual", stages[2].operator)
