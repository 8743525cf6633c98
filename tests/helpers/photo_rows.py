"""Photos, good and bad, and the rows that one process writes of them, for whoever makes rows in another way."""
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from npefficient.commands import main
from npefficient.weights.weight_file import write_weights
from small import save_photos, small_weights

COUNT = 24  # photos, two of them bad


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """photos/, small.h5, and expected.parquet: the rows that one process writes there."""
    place = tmp_path_factory.mktemp("ray")
    folder = place / "photos"
    folder.mkdir()
    save_photos(folder, COUNT - 4)
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (30, 40), np.uint8)).convert("P").save(folder / "palette.png", transparency=3)
    Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(folder / "photo.jpg", quality=90)
    (folder / "broken.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:300])
    (folder / "empty.jpg").touch()
    write_weights(place / "small.h5", small_weights())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert one_process(place, "photos", "expected.parquet") == 1
    return place


def one_process(place, photos, output, *more) -> int:
    """Classify photos into place/output; returns the exit code."""
    return main(["classify", str(photos), "--weights", str(place / "small.h5"), "--output", str(place / output), *more])


def rows(path):
    """The rows of a file, or of a directory of files sorted by their names."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    return pyarrow.concat_tables([pyarrow.parquet.ParquetFile(file).read() for file in files])
