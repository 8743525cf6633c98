"""What timm's train.py makes of a recipe, and timm's networks with given masks in place of their random ones."""
from live import torch

from npefficient.training.freeze import frozen_stages
from npefficient.training.recipes import Recipe


def timms_parts(module, recipe: Recipe):
    """(optimizer, scheduler, average of the weights), made as timm's train.py makes them."""
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import ModelEmaV3

    eps = {} if recipe.opt_eps is None else {"eps": recipe.opt_eps}
    optimizer = create_optimizer_v2(module, opt=recipe.opt, lr=recipe.learning_rate, momentum=recipe.momentum,
                                    weight_decay=recipe.weight_decay, **eps)
    scheduler, _ = create_scheduler_v2(
        optimizer, recipe.sched, recipe.epochs, recipe.decay_epochs, decay_rate=recipe.decay_rate,
        min_lr=recipe.min_lr, warmup_lr=recipe.warmup_lr, warmup_epochs=recipe.warmup_epochs)
    return optimizer, scheduler, ModelEmaV3(module, decay=recipe.model_ema_decay)


def freeze_parts(model, freeze: str, freeze_bn: bool) -> None:
    """Freeze the stages that a recipe names by timm's `freeze`, to which the stem's and the head's norms are others,
    and with `freeze_bn` each batch norm by timm's `freeze_batch_norm_2d`."""
    from timm.utils.model import freeze as timms_freeze
    from timm.utils.model import freeze_batch_norm_2d

    norms = {"conv_stem": ["bn1"], "conv_head": ["bn2"]}
    modules = [module for stage in frozen_stages(freeze) for module in (stage, *norms.get(stage, ()))]
    if modules:
        timms_freeze(model, modules)
    if freeze_bn:
        freeze_batch_norm_2d(model)


def drop_by(model, masks: dict) -> None:
    """Let timm's model, made with a drop_path_rate, drop what `masks` has when it is called; what has none stays.

    masks: as for `TrainingNetwork.forward`
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "DropPath":
            module.eval()  # without its own randomness
            module.register_forward_hook(_masked(masks, name.removesuffix(".drop_path"), (0, 3, 1, 2)))
    model.global_pool.register_forward_hook(_masked(masks, "classifier", (0, 1)))


def _masked(masks, name, axes):
    """A hook that multiplies a module's output by a mask."""
    return lambda module, inputs, output: (
        output * torch.from_numpy(masks[name].transpose(axes)) if name in masks else output)
