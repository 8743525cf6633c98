"""What is trained while stages are frozen, against what timm's `freeze` leaves trainable."""
import pytest
from live import needs_timm, timm
from timm_training import freeze_parts

from npefficient.errors import ArgumentError
from npefficient.network.architecture import build
from npefficient.training.freeze import FREEZABLE, frozen_stages, trained


@needs_timm
@pytest.mark.parametrize("freeze, freeze_bn", [
    ("0", False), ("1", False), ("3", False), ("9", False), ("conv_head", False), ("blocks.6,conv_stem", False),
    ("0", True), ("3", True)])
def test_what_is_trained_is_what_timm_leaves_trainable(freeze, freeze_bn):
    from timm.layers import FrozenBatchNormAct2d

    model = timm.create_model("tf_efficientnet_lite1", num_classes=3)
    freeze_parts(model, freeze, freeze_bn)
    got = trained(build("lite1", num_classes=3), freeze, freeze_bn)
    assert list(got.parameters) == [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert list(got.frozen_norms) == [name for name, module in model.named_modules()
                                      if isinstance(module, FrozenBatchNormAct2d)]


def test_frozen_stages_reads_numbers_and_names():
    assert frozen_stages("0") == () and frozen_stages("9") == FREEZABLE
    assert frozen_stages("2") == frozen_stages(" blocks.0, conv_stem") == ("conv_stem", "blocks.0")
    assert frozen_stages("blocks.3") == ("blocks.3",)


@pytest.mark.parametrize("freeze, text", [
    ("10", "freeze '10': there are 9 stages; give a number from 0 to 9"),
    ("9" * 5000, "there are 9 stages"),
    ("-1", "freeze '-1': it must be a number of the first stages, or names"),
    ("", "freeze '': it must be"),
    ("²", "freeze '²': it must be"),
    ("conv_stem,", "freeze '': it must be"),
    ("conv_stem,block.1", r"freeze 'block.1': .* \(did you mean 'blocks.1'\?\)"),
    ("classifier", "freeze 'classifier': it must be")])
def test_what_is_no_stage_is_refused(freeze, text):
    with pytest.raises(ArgumentError, match=text):
        frozen_stages(freeze)
