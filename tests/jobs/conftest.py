"""What the bridge to Ray is compared with."""
import numpy as np
import pytest
from PIL import Image
from small import save_photos, small_weights

from npefficient.weights.weight_file import write_weights


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """photos/, small.h5, and expected.parquet: the rows that one process writes there."""
    from photo_rows import COUNT, one_process  # which needs pyarrow

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
