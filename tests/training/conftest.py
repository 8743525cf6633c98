"""Photos of three classes, the files that a loader opens, and the threads that it leaves."""
import threading

import pytest
from class_photos import save_classes

from npefficient.images.image import open_image
from npefficient.jobs.class_folders import read_classes
from npefficient.training import loader


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return read_classes(save_classes(tmp_path_factory.mktemp("classes"), a=9, b=7, c=7)).photos  # 23 photos


@pytest.fixture
def opened(monkeypatch):
    """The files that are opened."""
    found = []

    def noting(path, **how):
        found.append(path)
        return open_image(path, **how)

    monkeypatch.setattr(loader, "open_image", noting)
    return found


@pytest.fixture(autouse=True)
def threads():
    """threads(): those of a loader that are alive; at the end there must be none."""
    def alive():
        return [thread for thread in threading.enumerate() if thread.name.startswith("npefficient-batches")]

    yield alive
    assert alive() == []
