"""Many photos at once: in order, the same bits as one by one, a bounded number ahead, and no thread left at the end."""
import itertools
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small import save_photos, small_model

from npefficient import create_model
from npefficient.errors import ArgumentError
from npefficient.images.image import open_image, transform
from npefficient.jobs.stream import AHEAD, needed, stream
from npefficient.network.architecture import build
from npefficient.network.preprocessing import Preprocessing


class Stub:
    """A model that knows what it is given: each "picture" is a (1, 1, 3) array of one number."""

    preprocessing, architecture, outputs = Preprocessing((1, 1), crop_pct=1.0), build("lite0"), ("classifier",)

    def __init__(self, delay=lambda value: None):
        self.delay, self.batches = delay, []

    def transform(self, image):
        return np.full((1, 1, 3), image.getpixel((0, 0))[0], np.float32)

    def activations(self, x, names):
        self.delay(int(x[0, 0, 0, 0]))
        self.batches.append(len(x))
        return {name: x[:, 0, 0, :1] * (2 if name == "classifier" else 3) for name in names}


@pytest.fixture(scope="module")
def greys(tmp_path_factory):
    """100 photos of one pixel; photo i has the value i."""
    folder = tmp_path_factory.mktemp("greys")
    for i in range(100):
        Image.new("RGB", (1, 1), (i, i, i)).save(folder / f"{i}.png")
    return [folder / f"{i}.png" for i in range(100)]


def values(outcomes):
    return [outcome.outputs["classifier"][0] for outcome in outcomes]


def workers_left():
    return [thread for thread in threading.enumerate() if thread.name.startswith("npefficient-photos")]


@pytest.mark.parametrize("batch_size, workers", [(1, 1), (1, 3), (4, 2), (7, 200), (200, 2)])
def test_stream_has_the_bits_of_one_photo_at_a_time(tmp_path, batch_size, workers):
    photos, model = save_photos(tmp_path, 23), small_model()
    got = list(stream(model, photos, batch_size=batch_size, workers=workers))
    assert [outcome.photo for outcome in got] == photos and all(outcome.error is None for outcome in got)
    for outcome in got:
        expected = model(model.transform(outcome.photo)[None])[0]
        assert outcome.outputs["classifier"].tobytes() == expected.tobytes()
    assert not workers_left()


@settings(max_examples=25, deadline=None)
@given(count=st.integers(0, 30), batch_size=st.integers(1, 8), workers=st.integers(1, 8), seed=st.integers(0, 99))
def test_stream_keeps_the_order_under_random_delays(greys, count, batch_size, workers, seed):
    rng = random.Random(seed)
    model = Stub(lambda value: threading.Event().wait(rng.choice([0, 0, 0.001, 0.003])))
    got = list(stream(model, greys[:count], batch_size=batch_size, workers=workers))
    assert values(got) == [2 * i for i in range(count)]
    assert max(model.batches, default=0) <= batch_size


@pytest.mark.parametrize("batch_size, workers", [(1, 1), (1, 4), (3, 2)])
def test_stream_takes_few_photos_ahead_of_an_endless_list(greys, batch_size, workers):
    taken = []

    def endless():
        for photo in itertools.cycle(greys):
            taken.append(photo)
            yield photo

    outcomes = stream(Stub(), endless(), batch_size=batch_size, workers=workers)
    for handed_out in range(150):
        next(outcomes)
        assert len(taken) <= handed_out + AHEAD * workers * batch_size
    outcomes.close()
    assert not workers_left()


def test_stream_hands_out_what_is_done_while_the_list_is_slow(greys):
    """With a window of eight, the first is there when the third is taken."""
    done = threading.Event()
    model, handed_out = Stub(), []

    def slow():
        yield greys[0]
        for photo in greys[1:4]:
            done.wait(10)
            yield photo

    model.delay = lambda value: done.set()
    for outcome in stream(model, slow(), workers=4):
        handed_out.append(outcome)
    assert values(handed_out) == [0, 2, 4, 6]


def test_stream_names_other_layers(greys):
    (got,) = stream(Stub(), greys[5:6], outputs=("global_pool", "classifier"))
    assert {name: row.tolist() for name, row in got.outputs.items()} == {"global_pool": [15.0], "classifier": [10.0]}


@pytest.mark.parametrize("options, layers", [
    ({"num_classes": 5}, ["classifier"]), ({"num_classes": 0}, ["global_pool"]),
    ({"num_classes": 0, "global_pool": ""}, ["bn2"]),
    ({"features_only": True, "out_indices": (1, 3)}, ["blocks.1", "blocks.4"]),
], ids=["classes", "features", "map", "features_only"])
def test_stream_puts_out_what_the_model_does(options, layers, tmp_path):
    """By default the outputs are those of a call."""
    model = create_model("lite0", num_threads=1, pretrained_cfg_overlay={"input_size": (3, 32, 32)}, **options)
    photos = save_photos(tmp_path, 3)
    for photo, got in zip(photos, stream(model, photos, batch_size=2), strict=True):
        made = model(model.transform(photo)[None])
        assert list(got.outputs) == layers
        for array, expected in zip(got.outputs.values(), made if isinstance(made, list) else [made], strict=True):
            np.testing.assert_array_equal(array, expected[0])


def test_stream_goes_on_after_bad_photos(greys, tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    photos = [tmp_path / "none.png", greys[1], tmp_path / "text.jpg", greys[2], tmp_path]
    for batch_size in (1, 2, 5):
        got = list(stream(Stub(), photos, batch_size=batch_size, workers=2))
        assert [outcome.photo for outcome in got] == photos
        assert [outcome.outputs and outcome.outputs["classifier"][0] for outcome in got] == [None, 2, None, 4, None]
        assert [bool(outcome.error) for outcome in got] == [True, False, True, False, True]
        assert "no such file" in got[0].error and "not an image" in got[2].error and "directory" in got[4].error


@pytest.mark.parametrize("problem", [MemoryError("of 99 bytes"), ZeroDivisionError("a bug 99")], ids=repr)
def test_stream_raises_other_errors_where_the_photo_comes(greys, problem):
    def fail(value):
        if value == 5:
            raise problem

    outcomes, got = stream(Stub(fail), greys, workers=3), []
    with pytest.raises(type(problem), match="99"):
        for outcome in outcomes:
            got.append(outcome)
    assert values(got) == [0, 2, 4, 6, 8] and not workers_left()


def test_stream_closed_begins_no_photo_and_leaves_no_thread(greys):
    begun = []
    outcomes = stream(Stub(), greys, workers=2, preprocess=lambda image: begun.append(image) or np.zeros((1, 1, 3)))
    next(outcomes)
    outcomes.close()
    assert not workers_left() and len(begun) <= 2 * AHEAD and list(outcomes) == []


@pytest.mark.parametrize("problem", [KeyboardInterrupt, OSError])
def test_stream_whose_list_fails_leaves_no_thread(greys, problem):
    def photos():
        yield from greys[:20]
        raise problem("after 20")

    with pytest.raises(problem, match="after 20"):
        list(stream(Stub(), photos(), workers=2))
    assert not workers_left()


def test_stream_stops_inside_a_batch(greys):
    """A worker with a large batch checks after each photo whether its results are still wanted."""
    started, go_on, begun = threading.Event(), threading.Event(), []

    def slow(image):
        begun.append(image)
        started.set()
        go_on.wait(10)
        return np.zeros((1, 1, 3), np.float32)

    def photos():
        yield from greys[:50]
        started.wait(10)
        threading.Timer(0.05, go_on.set).start()  # the worker's first photo ends while the iterator is being closed
        raise ZeroDivisionError("enough of 99")

    with pytest.raises(ZeroDivisionError, match="99"):
        list(stream(Stub(), photos(), workers=1, batch_size=50, preprocess=slow))
    assert len(begun) == 1 and not workers_left()


@pytest.mark.parametrize("option", ["batch_size", "workers"])
@pytest.mark.parametrize("value", [0, -3, 1.5, True, "2"])
def test_stream_refuses_at_once(option, value):
    with pytest.raises(ArgumentError, match=f"{option} {value!r}: it must be a whole number"):
        stream(Stub(), [], **{option: value})


@pytest.mark.parametrize("outputs, message", [
    ("classifier", r"layers 'classifier': give a list of names, such as \['classifier'\]"),
    (["classifer"], "layer 'classifer': .* no layer of this name .did you mean 'classifier'")])
def test_stream_refuses_unknown_layers_at_once(outputs, message):
    with pytest.raises(ArgumentError, match=message):
        stream(small_model(), [], outputs=outputs)


@pytest.mark.parametrize("model", ["lite0", None])
def test_stream_refuses_what_is_no_model(model):
    with pytest.raises(ArgumentError, match=f"model of type {type(model).__name__}: it must be what npeff"):
        stream(model, [])


def test_stream_refuses_one_name():
    with pytest.raises(ArgumentError, match="photos 'dog.jpg': give several"):
        stream(Stub(), "dog.jpg")


def test_stream_of_nothing_starts_nothing():
    assert list(stream(Stub(), [])) == [] and not workers_left()


def test_stream_loads_every_format_before_it_starts_threads():
    """Pillow loads its rarer formats on first need; a thread that comes meanwhile finds them missing."""
    script = """
from npefficient.jobs.stream import stream
from npefficient.model.model import create_model
stream(create_model("lite0", backend="reference"), [], workers=1)
from PIL import Image
print(bool(Image.init()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr  # nothing was left to load


@pytest.mark.parametrize("size, draft, expected", [
    ((800, 600), 100, (400, 300)), ((800, 600), 150, (400, 300)), ((800, 600), 151, (800, 600)),
    ((800, 600), 37, (100, 75)), ((99, 70), 100, (99, 70)),
], ids=["a_third_is_no_step", "half", "one_too_many", "eighth", "smaller_than_needed"])
def test_open_image_draft_keeps_twice_what_is_needed(tmp_path, size, draft, expected):
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "a.jpg")
    Image.new("RGB", size, (10, 20, 30)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.jpg", draft=draft).size == expected
    assert open_image(tmp_path / "a.png", draft=draft).size == size
    assert open_image(tmp_path / "a.jpg").size == size


def test_open_image_refuses_a_draft_of_nothing(tmp_path):
    with pytest.raises(ArgumentError, match="draft, .*, 0: it must be a whole number of at least 1"):
        open_image(tmp_path / "a.jpg", draft=0)


@pytest.mark.parametrize("orientation", [1, 6])
def test_stream_fast_decode_is_near(tmp_path, orientation):
    """In a smooth photo the fast decoder's error is small; one that left out rows would be far off."""
    rows, columns = np.mgrid[0:900, 0:1200] / 1200
    pixels = np.stack([rows, columns, (rows + columns) / 2], axis=-1) * 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95, exif=exif)
    p, taken = Preprocessing((64, 48)), []

    class Model(Stub):
        preprocessing = p

        def transform(self, image):
            taken.append(image.size)
            return transform(image, p)

        def activations(self, x, names):
            return {"classifier": x.reshape(len(x), -1)}

    (full,), (quick,) = (stream(Model(), [tmp_path / "a.jpg"], exif=True, fast_decode=fast) for fast in (False, True))
    difference = np.abs(full.outputs["classifier"] - quick.outputs["classifier"]).max()
    assert 0 < difference < 0.05
    assert needed(p) == 73 and sorted(taken[1]) == [225, 300] and sorted(taken[0]) == [900, 1200]
