"""How a loader ends: used up, closed, by an error or an interrupt, it reads nothing more and leaves no thread."""
import contextlib
import threading

import pytest

from npefficient.images.image import open_image
from npefficient.network.preprocessing import Preprocessing
from npefficient.training import loader
from npefficient.training.augmentation import Augmentation, TrainingTransform
from npefficient.training.loader import AHEAD, TrainingLoader, ValidationLoader

PREPROCESSING = Preprocessing((12, 16))
AUGMENT = TrainingTransform(Augmentation(), PREPROCESSING)


def test_few_batches_are_read_ahead(photos, opened, threads):
    for batches in (TrainingLoader(photos, AUGMENT, 2, workers=3).batches(0),
                    ValidationLoader(photos, PREPROCESSING, 2, workers=3).batches()):
        opened.clear()
        for done in range(1, 5):
            next(batches)
            assert len(opened) <= 2 * (done + AHEAD)
        batches.close()
        assert len(opened) <= 2 * (4 + AHEAD) and list(batches) == [] and threads() == []


@pytest.mark.parametrize("problem", [MemoryError("99 bytes"), ZeroDivisionError("a bug, 99")], ids=repr)
def test_other_errors_come_with_their_batch(photos, monkeypatch, problem, threads):
    def failing(path, **how):
        if path == photos[9][0]:
            raise problem
        return open_image(path, **how)

    monkeypatch.setattr(loader, "open_image", failing)
    got = []
    with pytest.raises(type(problem), match="99"):
        for batch in ValidationLoader(photos, PREPROCESSING, 4, workers=3).batches():
            got.append(batch)
    assert len(got) == 2 and threads() == []


def test_an_interrupt_while_a_batch_is_waited_for(photos, monkeypatch, threads):
    """As Ctrl-C raises it: the photos that are being read are waited for, and no other one is begun."""
    begun, both, go_on = [], threading.Barrier(3, timeout=60), threading.Event()

    def slow(path, **how):
        begun.append(path)
        both.wait()
        go_on.wait(60)
        return open_image(path, **how)

    def interrupted(*batch):
        both.wait()
        raise KeyboardInterrupt("after 2")

    class Pool(loader.ThreadPoolExecutor):
        def shutdown(self, **how):
            go_on.set()
            super().shutdown(**how)

    training = TrainingLoader(photos, AUGMENT, 8, workers=2)
    monkeypatch.setattr(loader, "open_image", slow)
    monkeypatch.setattr(loader, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(training, "_finish", interrupted)
    with pytest.raises(KeyboardInterrupt, match="after 2"):
        next(training.batches(0))
    assert len(begun) == 2 and threads() == []


def test_an_exception_of_the_caller_leaves_no_thread(photos, opened, threads):
    training = TrainingLoader(photos, AUGMENT, 4, workers=2)
    with pytest.raises(KeyboardInterrupt, match="after 4"), contextlib.closing(training.batches(0)) as batches:
        next(batches)
        raise KeyboardInterrupt("after 4")
    before = len(opened)
    assert threads() == [] and before <= 4 * (1 + AHEAD)
    threading.Event().wait(0.02)
    assert len(opened) == before
