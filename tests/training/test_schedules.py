"""The learning rate of each epoch against timm's schedulers, called as its train.py calls them."""
import pytest
from live import needs_timm, torch

from npefficient.training.schedules import Schedule

SETTINGS = [
    dict(sched="cosine", lr=0.1, epochs=30),
    dict(sched="cosine", lr=0.05, epochs=20, warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-4),
    dict(sched="cosine", lr=0.3, epochs=1),
    dict(sched="step", lr=0.048, epochs=450, warmup_epochs=3, warmup_lr=1e-6, decay_epochs=2.4, decay_rate=0.97),
    dict(sched="step", lr=0.1, epochs=40, decay_epochs=10.0, decay_rate=0.1, min_lr=1e-3),
    dict(sched="step", lr=0.1, epochs=40, warmup_epochs=12, decay_epochs=7.0, decay_rate=0.5),
]


@needs_timm
@pytest.mark.filterwarnings("ignore:Cosine annealing scheduler will have no effect")
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_every_epoch_has_timms_rate(setting):
    from timm.scheduler import create_scheduler_v2

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=setting["lr"])
    defaults = {"warmup_epochs": 0, "warmup_lr": 1e-5, "decay_epochs": 90.0, "decay_rate": 0.1, "min_lr": 0.0}
    names = {**defaults, **{name: value for name, value in setting.items() if name not in ("lr", "epochs")}}
    theirs, epochs = create_scheduler_v2(optimizer, num_epochs=setting["epochs"], updates_per_epoch=3,
                                         step_on_epochs=True, cycle_decay=0.5, cycle_limit=1, **names)
    ours = Schedule(**setting)
    assert epochs == setting["epochs"]
    rates = []
    for epoch in range(epochs + 3):
        for update in range(3):
            rates.append(optimizer.param_groups[0]["lr"])
            assert ours(epoch) == rates[-1], epoch
            theirs.step_update(num_updates=3 * epoch + update + 1)
        theirs.step(epoch + 1)
    assert len(set(rates)) > 1


def test_a_schedule_by_hand():
    cosine = Schedule("cosine", 1.0, 4, warmup_epochs=1, warmup_lr=0.25, min_lr=0.5)
    assert [round(cosine(epoch), 12) for epoch in range(6)] == [0.25, 0.926776695297, 0.75, 0.573223304703, 0.5, 0.5]
    step = Schedule("step", 8.0, 6, decay_epochs=2.5, decay_rate=0.5)
    assert [step(epoch) for epoch in range(7)] == [8, 8, 8, 4, 4, 2, 2]
