"""Recipes: defaults, rules and what follows from them."""
import dataclasses
import math

import numpy as np
import pytest
from live import needs_timm

from npefficient.errors import ArgumentError
from npefficient.network.preprocessing import Preprocessing
from npefficient.training.recipes import OPTIONS, Recipe, changed
from npefficient.training.schedules import Schedule


def test_every_option_has_a_default_within_its_rule_and_a_line_of_help():
    recipe = Recipe()
    for name, option in OPTIONS.items():
        assert name == option.field.replace("_", "-") and option.help and "\n" not in option.help
        value = getattr(recipe, option.field)
        assert option.kind.check(name, value) == value and option.kind.read(option.kind.write(value)) == value


@needs_timm
def test_defaults_that_timm_has_in_its_functions_too():
    import inspect

    from timm.data import create_transform
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    recipe = Recipe()
    for function, names in ((create_optimizer_v2, {"opt": "opt", "momentum": "momentum"}),
                            (create_scheduler_v2, {"sched": "sched", "num_epochs": "epochs", "min_lr": "min_lr",
                                                   "warmup_lr": "warmup_lr", "decay_rate": "decay_rate"}),
                            (create_transform, {"hflip": "hflip", "color_jitter": "color_jitter"})):
        defaults = inspect.signature(function).parameters
        assert {name: getattr(recipe, ours) for name, ours in names.items()} == {
            name: defaults[name].default for name in names}


@pytest.mark.parametrize("options, text", [
    (dict(epochs=0), "epochs 0: it must be a whole number from 1 to 100,000"),
    (dict(epochs=2.5), "epochs 2.5: it must be a whole"),
    (dict(patience=0), "patience 0: it must be a whole number from 1 to 100,000, or none"),
    (dict(epochs=True), "epochs True: it must be a whole"),
    (dict(seed=-1), "seed -1: it must be"),
    (dict(opt="lamb"), "opt 'lamb': it must be one of sgd, momentum, rmsproptf, adamw"),
    (dict(opt=["sgd"]), r"opt \['sgd'\]: it must be one of"),
    (dict(lr=0.0), "lr 0.0: it must be a number above 0 and at most 1000, or none"),
    (dict(lr="0.1"), "lr '0.1': it must be a number"),
    (dict(lr=math.nan), "lr nan: it must be"),
    (dict(momentum=1.0), "momentum 1.0: it must be a number of at least 0 and below 1"),
    (dict(momentum=True), "momentum True: it must be a number"),
    (dict(weight_decay=10**400), "weight-decay 1000.*: it must be a number of at least 0 and at most 10"),
    (dict(clip_grad=-1.0), "clip-grad -1.0: it must be"),
    (dict(model_ema="yes"), "model-ema 'yes': it must be true or false"),
    (dict(model_ema=1), "model-ema 1: it must be true or false"),
    (dict(scale=(0.5, 0.1)), r"scale \(0.5, 0.1\): it must be two numbers, the lower one first, each a number of "),
    (dict(img_size=0), "img-size 0: it must be a whole number from 1 to 8,192, or none"),
    (dict(crop_pct=1.5), "crop-pct 1.5: it must be a number of at least 0.01 and at most 1, or none"),
    (dict(scale=0.5), "scale 0.5: it must be two numbers"),
    (dict(scale=(0.1, 0.2, 0.3)), "scale .* it must be two numbers"),
    (dict(ratio=(0.0, 1.0)), "ratio .* it must be two numbers"),
    (dict(aa="v0"), "RandAugment 'v0': it starts with 'v0'; only RandAugment is known, such as 'rand-m9-mstd0.5'"),
    (dict(aa="rand-m9-"), "RandAugment 'rand-m9-': section ''; each is one of m9, n2"),
    (dict(aa=3), "aa 3: it must be"),
    (dict(aa="rand-n101"), "n101; the number of operations must be from 1 to 100"),
    (dict(freeze=3), "freeze 3: it must be text, such as '3'"),
    (dict(freeze="12"), "freeze '12': there are 9 stages"),
    (dict(warmup_epochs=3, epochs=3), "warmup-epochs 3 of 3 epochs: the learning rate would never be reached"),
    (dict(mixup=0.2, batch_size=33), "batch-size 33 with mixup or cutmix, which mix pairs: it must be even"),
    (dict(cutmix=1.0, batch_size=1), "batch-size 1 with mixup or cutmix"),
])
def test_what_breaks_a_rule_is_refused(options, text):
    with pytest.raises(ArgumentError, match=text):
        Recipe(**options)


def test_values_get_the_type_of_their_option():
    recipe = Recipe(epochs=np.int64(9), lr=np.float32(0.5), min_lr=0, scale=[1, 1], aa="rand-m9-n3-mstd0.5-inc1-p0.7")
    assert [type(value) for value in (recipe.epochs, recipe.lr, recipe.min_lr, *recipe.scale)] == [int] + [float] * 4
    assert recipe == Recipe(epochs=9, lr=0.5, scale=(1.0, 1.0), aa="rand-m9-n3-mstd0.5-inc1-p0.7")
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.lr = 1.0


def test_changed_reads_texts():
    recipe = changed(Recipe(), {"lr": ".048", "epochs": "5", "warmup-epochs": "0", "model-ema": "true",
                                "clip-grad": "none", "scale": "0.5  1", "aa": "rand-m9-mstd0.5", "freeze": "blocks.0"})
    assert recipe == Recipe(lr=0.048, epochs=5, warmup_epochs=0, model_ema=True, scale=(0.5, 1.0),
                            aa="rand-m9-mstd0.5", freeze="blocks.0")
    assert changed(recipe, {"lr": "none"}).lr is None
    with pytest.raises(ArgumentError, match=r"'weigth-decay' is no option of a recipe \(did you mean 'weight-decay'\?"):
        changed(recipe, {"weigth-decay": "1"})
    for name, text in (("epochs", "many"), ("lr", "1,5"), ("model-ema", "True"), ("scale", "0.5"), ("ratio", "a b"),
                       ("epochs", "9" * 5000), ("hflip", "inf")):
        with pytest.raises(ArgumentError, match=f"{name} .*: it must be"):
            changed(recipe, {name: text})


@pytest.mark.parametrize("options, expected", [
    (dict(), 0.05), (dict(batch_size=256, grad_accum_steps=2), 0.2), (dict(opt="rmsproptf", batch_size=64), 0.025),
    (dict(opt="adamw", batch_size=64), 0.05), (dict(lr=0.3, batch_size=64), 0.3)])
def test_the_learning_rate_is_timms_for_the_pictures_of_an_update(options, expected):
    assert Recipe(**options).learning_rate == pytest.approx(expected, rel=1e-15)


def test_the_schedule_has_the_options_of_the_recipe():
    recipe = Recipe(sched="step", lr=0.5, epochs=8, warmup_epochs=2, warmup_lr=0.1, min_lr=0.01, decay_epochs=3.0,
                    decay_rate=0.25)
    assert recipe.schedule == Schedule("step", 0.5, 8, 2, 0.1, 3.0, 0.25, 0.01)


@pytest.mark.parametrize("options, size, share", [
    (dict(), (90, 80), 0.9), (dict(img_size=64), (64, 64), 0.9), (dict(img_size=64, crop_pct=1.0), (64, 64), 1.0)])
def test_size_and_share_take_the_place_of_the_models_own(options, size, share):
    own = Preprocessing((90, 80), 0.9, "bilinear", (0.1, 0.2, 0.3))
    assert Recipe(**options).preprocessing(own) == dataclasses.replace(own, input_size=size, crop_pct=share)
