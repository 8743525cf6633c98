"""Pools of workers."""
import pytest
from fake_work import bounded

from npefficient.engine import workers
from npefficient.engine.workers import WorkerPool
from npefficient.kernels.layout import FLOAT32


@pytest.fixture
def make(monkeypatch):
    """make(work) -> a WorkerPool whose workers run `work`, or the compiled driver; they end with the test."""
    made = []

    def start(work=None):
        work = work or workers.driver(FLOAT32)  # compiled here, since a worker must not wait so long for it
        monkeypatch.setattr(workers, "driver", lambda layout: work)
        made.append(WorkerPool())
        return made[-1]

    yield start
    for pool in made:
        bounded(pool.stop)
