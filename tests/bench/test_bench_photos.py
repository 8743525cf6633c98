"""`npefficient bench photos`: that it refuses wrong results, and that what it counts and prints is right."""
import itertools
import threading

import numpy as np
import pytest
from fake_clock import Clock
from json_tables import tables
from PIL import Image
from small import save_photos, small_model

from npefficient.bench import photos
from npefficient.errors import NpefficientError


def test_rate_counts_what_the_clock_says():
    clock = Clock()

    def work():
        for i in itertools.count():
            clock.now += 5.0 if i == 0 else 0.25  # the first one is the warm-up
            yield i

    assert photos.rate(work(), 8.0, clock) == 4.0


def test_rate_counts_at_least_one():
    clock = Clock()

    def work():
        while True:
            clock.now += 1000
            yield

    assert photos.rate(work(), 1.0, clock) == 1 / 1000


class Clocks(threading.local):
    """One clock per thread, which the thread's work moves forward."""

    now = 0.0

    def __call__(self):
        return self.now

    def work(self, seconds):
        self.now += seconds


@pytest.mark.parametrize("workers", [1, 3])
def test_alone_adds_up_the_workers(workers):
    clocks = Clocks()
    assert photos.alone(clocks.work, [0.5], workers, 8.0, clocks) == pytest.approx(2.0 * workers)


def test_photos_are_as_large_as_said_and_not_smooth(tmp_path):
    paths = photos.make_photos(tmp_path, 75, 100, 2)
    one, two = (np.asarray(Image.open(path)).astype(float) for path in paths)
    assert one.shape == two.shape == (75, 100, 3) and np.abs(one - two).mean() > 10 and one.std() > 20


def test_verify_refuses_other_logits(tmp_path):
    paths, model = save_photos(tmp_path, 3), small_model()
    photos.verify(model, paths, 2)

    class Wrong:
        architecture, preprocessing, transform = model.architecture, model.preprocessing, model.transform
        outputs = model.outputs

        def __call__(self, x):
            return np.nextafter(model(x), np.float32(9))

        def activations(self, x, names):
            return model.activations(x, names)

    with pytest.raises(NpefficientError, match="00000.png: WRONG RESULT, other logits in the stream; nothing is timed"):
        photos.verify(Wrong(), paths, 2)
    with pytest.raises(NpefficientError, match="photo '.*none.png': no such file"):
        photos.verify(model, [tmp_path / "none.png"], 2)


def test_bench_photos(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "SIZES", {"100x75": (75, 100, 2), "1400x1050": (1050, 1400, 2)})
    code, out, err = bench("photos", "--seconds", 0.01, "--json", tmp_path / "photos.json", "--threads", 2)
    assert code == 0 and "photos a second, lite0 on 2 threads" in out
    assert [line for line in err.splitlines() if "round" in line] == [
        f"{photo} JPEG{fast}, round {i} of 3" for photo in photos.SIZES for fast in ("", ", fast") for i in (1, 2, 3)]
    rows = tables(tmp_path / "photos.json")["photos"]
    assert [row["photos"] for row in rows] == ["100x75 JPEG", "100x75 JPEG, fast", "1400x1050 JPEG",
                                               "1400x1050 JPEG, fast"]
    for row in rows:
        decode, compute, both = (row[name] for name in ("decode/s", "compute/s", "both/s"))
        assert row["best/s"] == pytest.approx(decode * compute / (decode + compute)) and both > 0
        assert row["of best"] == pytest.approx(both / row["best/s"])
        assert row["of slower"] == pytest.approx(both / min(decode, compute))
    assert [row.get("logits move") for row in rows[:3]] == [None, 0.0, None]  # the small ones can't be decoded smaller
    assert 0 < rows[3]["logits move"] < 1


