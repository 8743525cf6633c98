"""A valid weight file, and copies to be damaged."""
import shutil

import pytest
from weight_files import small_weights

from npefficient.weights.weight_file import write_weights


@pytest.fixture(scope="session")
def small():
    return small_weights()


@pytest.fixture(scope="session")
def stored(small, tmp_path_factory):
    """A weight file of `small`; never changed."""
    path = tmp_path_factory.mktemp("weights") / "small.h5"
    write_weights(path, small)
    return path


@pytest.fixture
def victim(stored, tmp_path):
    """A copy of `stored` to be damaged; it is removed after the test, since a hundred copies take 700 MB."""
    path = shutil.copy(stored, tmp_path / "victim.h5")
    yield path
    path.unlink(missing_ok=True)
