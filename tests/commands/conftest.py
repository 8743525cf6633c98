"""Weight files for commands to run with."""
import pytest
from small import small_weights

from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A weight file of five classes, for pictures of 32 x 32; never changed."""
    path = tmp_path_factory.mktemp("weights") / "small.h5"
    write_weights(path, small_weights())
    return path


@pytest.fixture(scope="session")
def ten(tmp_path_factory):
    """ten.h5, a weight file of lite0 with ten classes; never changed."""
    path = tmp_path_factory.mktemp("weights") / "ten.h5"
    write_weights(path, random_weights(build("lite0", 10)))
    return path


@pytest.fixture
def classify(command, small):
    """classify(...) -> (exit code, stdout, stderr) of `npefficient classify` with the weights of `small`."""
    return lambda *arguments: command("classify", "--weights", small, *arguments)


@pytest.fixture
def official(tmp_path, monkeypatch):
    """The file in which the cache keeps the official weights of lite0; those in it are random."""
    weights = random_weights(build("lite0"))
    path = tmp_path / "weights" / weights.architecture.variant.file.replace(".pth", ".h5")
    path.parent.mkdir()
    write_weights(path, weights)
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path))
    return path
