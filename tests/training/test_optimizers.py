"""Each optimizer step by step against timm's, and its state."""
import numpy as np
import pytest
import tiny_network
from live import needs_timm, timm, torch

from npefficient.errors import ArgumentError, WeightsError
from npefficient.training.optimizers import OPTIMIZERS, create_optimizer, decays
from npefficient.training.states import copies, restore

STEPS = 20


def rates():
    """A different learning rate for each step."""
    return [0.05 * 0.93**i for i in range(STEPS)]


def run(optimizer, gradients, lrs):
    for gradient, lr in zip(gradients, lrs):
        optimizer.step(gradient, lr)


@needs_timm
@pytest.mark.parametrize("options", [
    {}, {"momentum": 0.5}, {"weight_decay": 0.05}, {"weight_decay": 0.05, "opt_eps": 1e-3}], ids=str)
@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_an_optimizer_takes_timms_steps(opt, options):
    from timm.optim import create_optimizer_v2

    module = tiny_network.module()
    eps = {"eps": options["opt_eps"]} if "opt_eps" in options else {}
    theirs = create_optimizer_v2(module, opt=opt, lr=1.0, weight_decay=options.get("weight_decay", 0.0),
                                 momentum=options.get("momentum", 0.9), **eps)
    parameters = tiny_network.parameters(module)
    ours = create_optimizer(opt, parameters, **options)
    start = {name: array.copy() for name, array in parameters.items()}
    for gradients, lr in zip(tiny_network.gradients(parameters, STEPS), rates()):
        for name, parameter in module.named_parameters():
            parameter.grad = torch.from_numpy(gradients[name].copy())
        for group in theirs.param_groups:
            group["lr"] = lr
        theirs.step()
        ours.step(gradients, lr)
        for name, parameter in module.named_parameters():
            expected = parameter.detach().numpy()
            assert parameters[name].dtype == np.float32
            np.testing.assert_allclose(parameters[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)
    assert all(np.abs(parameters[name] - start[name]).max() > 1e-2 for name in parameters)


@needs_timm
def test_decays_agrees_with_timm_about_every_parameter_of_a_network():
    from timm.optim import create_optimizer_v2

    model = timm.create_model("tf_efficientnet_lite0", num_classes=3)
    groups = create_optimizer_v2(model, opt="sgd", lr=0.1, weight_decay=0.5).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed
    for name, parameter in model.named_parameters():
        assert decays(name, parameter.detach().numpy()) == (id(parameter) in decayed), name


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.05}], ids=str)
@pytest.mark.parametrize("opt", OPTIMIZERS)
def test_a_restored_state_goes_on_with_the_same_bits(opt, options):
    parameters = tiny_network.arrays()
    gradients, lrs = tiny_network.gradients(parameters, STEPS), rates()
    optimizer = create_optimizer(opt, parameters, **options)
    run(optimizer, gradients[:7], lrs[:7])
    saved, kept = copies(optimizer.state), copies(parameters)
    run(optimizer, gradients[7:], lrs[7:])

    again = create_optimizer(opt, kept, **options)
    restore(again.state, saved, "optimizer state")
    run(again, gradients[7:], lrs[7:])
    assert {name: array.tobytes() for name, array in kept.items()} == {
        name: array.tobytes() for name, array in parameters.items()}
    assert {name: array.tobytes() for name, array in again.state.items()} == {
        name: array.tobytes() for name, array in optimizer.state.items()}


def test_a_step_leaves_the_gradients_alone_and_ignores_those_of_other_parameters():
    parameters = tiny_network.arrays()
    gradients = tiny_network.gradients(parameters, 1)[0]
    before = {name: array.copy() for name, array in gradients.items()}
    only = {"fc.weight": parameters["fc.weight"]}
    still = parameters["conv.weight"].copy()
    create_optimizer("sgd", only, weight_decay=0.1).step(gradients, 0.1)
    assert np.array_equal(parameters["conv.weight"], still)
    assert all(np.array_equal(gradients[name], before[name]) for name in gradients)


def test_sgd_by_hand():
    """One weight of 2.0, gradients 1 and 3, lr 0.5, momentum 0.5: v = 1, 3.5; Nesterov adds half of v to g."""
    for opt, expected in (("momentum", [1.5, -0.25]), ("sgd", [1.25, -1.125])):
        p = {"w": np.full((1, 1), 2.0, np.float32)}
        optimizer = create_optimizer(opt, p, momentum=0.5)
        for gradient, value in zip((1.0, 3.0), expected):
            optimizer.step({"w": np.full((1, 1), gradient, np.float32)}, 0.5)
            assert p["w"][0, 0] == value


def test_a_state_of_something_else_is_refused_and_changes_nothing():
    parameters = tiny_network.arrays()
    optimizer = create_optimizer("sgd", parameters)
    run(optimizer, tiny_network.gradients(parameters, 1), [0.1])
    before = copies(optimizer.state)
    name = "fc.weight.momentum_buffer"
    with pytest.raises(WeightsError, match="beta1_power.* unexpected|'bn.bias.momentum_buffer'.* missing"):
        restore(optimizer.state, create_optimizer("adamw", parameters).state, "optimizer state")
    for wrong in (before[name][:1], before[name].astype(np.float64)):
        with pytest.raises(WeightsError, match=f"'{name}' of another shape or dtype; .* start anew"):
            more = {"bn.bias.momentum_buffer": before["bn.bias.momentum_buffer"] + 1, name: wrong}
            restore(optimizer.state, before | more, "optimizer state")
    assert all(np.array_equal(optimizer.state[name], before[name]) for name in before)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ArgumentError, match="opt 'lamb': it must be one of 'sgd', 'momentum', 'rmsproptf', 'adamw'"):
        create_optimizer("lamb", {})
