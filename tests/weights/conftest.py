"""Weight files, whole ones and one to be spoilt."""
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


@pytest.fixture(scope="session")
def valid(tmp_path_factory):
    """A whole weight file; never changed."""
    path = tmp_path_factory.mktemp("hostile") / "valid.h5"
    write_weights(path, small_weights())
    return path


@pytest.fixture
def victim(valid, tmp_path):
    """A copy to be spoilt, removed at once: a hundred of them are 700 MB."""
    path = shutil.copy(valid, tmp_path / "victim.h5")
    yield path
    path.unlink(missing_ok=True)
