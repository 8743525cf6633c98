"""Batches: the order, the bits for any number of threads, resuming, bad photos."""
import contextlib
import threading

import numpy as np
import pytest
from live import needs_timm, timm
from PIL import Image

from npefficient.errors import ArgumentError, ImageError
from npefficient.images.image import open_image, transform
from npefficient.network.preprocessing import Preprocessing
from npefficient.training import loader
from npefficient.training.augmentation import Augmentation, TrainingTransform
from npefficient.training.loader import TrainingLoader, ValidationLoader
from npefficient.training.seeds import epoch_order, photo_generator

PREPROCESSING = Preprocessing((12, 16))
AUGMENT = TrainingTransform(Augmentation(auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.3), PREPROCESSING)


@contextlib.contextmanager
def broken(*places):
    """Files of no picture, for a while."""
    kept = {path: path.read_bytes() for path, _ in places}
    for path in kept:
        path.write_text("no picture")
    try:
        yield
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def assert_equal(got, expected):
    assert len(got) == len(expected) and expected
    for a, b in zip(got, expected):
        assert a.x.tobytes() == b.x.tobytes() and a.labels.tolist() == b.labels.tolist() and a.photos == b.photos


@pytest.mark.parametrize("batch_size, count", [(1, 23), (5, 4), (8, 2), (23, 1)])
def test_an_epoch_by_hand(photos, batch_size, count):
    """Each photo comes in the epoch's order with what is drawn for its index, and incomplete batches are dropped."""
    training = TrainingLoader(photos, AUGMENT, batch_size, seed=3, workers=2)
    got = list(training.batches(4))
    assert len(got) == len(training) == count
    for place, index in enumerate(epoch_order(3, 4, 23)[:count * batch_size]):
        batch, row = got[place // batch_size], place % batch_size
        image = open_image(photos[index][0])
        expected = AUGMENT.apply(image, AUGMENT.draw(photo_generator(3, 4, int(index)), (image.height, image.width)))
        np.testing.assert_array_equal(batch.x[row], expected)
        assert (batch.photos[row], batch.labels[row]) == photos[index]
    assert got[0].x.shape == (batch_size, 12, 16, 3) and got[0].x.dtype == np.float32
    assert got[0].labels.dtype == np.int64 and got[0].x.flags.c_contiguous


@pytest.mark.parametrize("workers", [2, 5, 40])
def test_threads_do_not_change_a_bit(photos, workers, monkeypatch):
    """Even if photos are read in another order."""
    expected = list(TrainingLoader(photos, AUGMENT, 4, workers=1).batches(1))
    delays = iter(np.random.default_rng(workers).choice([0, 0, 0.002, 0.005], 23))

    def slow(path, **how):
        threading.Event().wait(next(delays))
        return open_image(path, **how)

    monkeypatch.setattr(loader, "open_image", slow)
    assert_equal(list(TrainingLoader(photos, AUGMENT, 4, workers=workers).batches(1)), expected)


@pytest.mark.parametrize("skip", [1, 3, 5])
def test_skipping_resumes_an_epoch_without_reading_what_is_skipped(photos, opened, skip):
    training = TrainingLoader(photos, AUGMENT, 4, seed=5, workers=2)
    expected = list(training.batches(2))[skip:]
    opened.clear()
    got = list(training.batches(2, skip=skip))
    assert len(opened) == 4 * (5 - skip)
    if expected:
        assert_equal(got, expected)
    assert len(got) == 5 - skip


def test_epochs_and_seeds_differ(photos):
    def first(seed, epoch):
        with contextlib.closing(TrainingLoader(photos, AUGMENT, 8, seed=seed).batches(epoch)) as batches:
            return next(batches).photos

    assert len({tuple(first(*key)) for key in ((0, 0), (0, 1), (1, 0), (1, 1))}) == 4


def test_validation_is_what_the_network_sees(photos):
    got = list(ValidationLoader(photos, PREPROCESSING, 10, workers=3).batches())
    assert [len(batch.x) for batch in got] == [10, 10, 3]
    assert [photo for batch in got for photo in zip(batch.photos, batch.labels)] == photos
    expected = np.stack([transform(open_image(path), PREPROCESSING) for path, _ in photos])
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in got]), expected)
    assert len(ValidationLoader(photos, PREPROCESSING, 10)) == 3 and len(ValidationLoader([], PREPROCESSING, 10)) == 0
    assert list(ValidationLoader([], PREPROCESSING, 10).batches()) == []


def test_grey_photos_for_one_channel(photos):
    (got, *_) = ValidationLoader(photos, PREPROCESSING, 23, in_chans=1).batches()
    np.testing.assert_array_equal(got.x[4], transform(open_image(photos[4][0], in_chans=1), PREPROCESSING, 1))
    (got,) = TrainingLoader(photos, TrainingTransform(Augmentation(), PREPROCESSING, 1), 23).batches(0)
    assert got.x.shape == (23, 12, 16, 1)


def test_options_of_reading(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    places = [(tmp_path / "a.png", 0)]
    (plain,), (turned,) = (ValidationLoader(places, Preprocessing((12, 16), 1.0), 1, exif=exif).batches()
                           for exif in (False, True))
    np.testing.assert_array_equal(plain.x[:, ::-1, ::-1], turned.x)
    limited = ValidationLoader(places, PREPROCESSING, 1, max_pixels=100)
    assert list(limited.batches()) == [] and "at most 100 are allowed" in limited.bad[tmp_path / "a.png"]


# Photos that can't be read


def test_the_next_photo_takes_the_place_of_a_bad_one(photos):
    """In its place, with the parameters of the place; all other rows stay as they are. Each is reported once."""
    reports = []
    training = TrainingLoader(photos, AUGMENT, 23, seed=1, report=lambda path, why: reports.append((path, why)))
    before = [next(training.batches(epoch)) for epoch in (0, 1)]
    with broken(photos[4], photos[5], photos[22]):
        after = [next(training.batches(epoch)) for epoch in (0, 1)]
    assert sorted(path for path, _ in reports) == [photos[4][0], photos[5][0], photos[22][0]]
    assert all("not an image" in why for _, why in reports) and training.bad == dict(reports)
    for epoch in (0, 1):
        for row, index in enumerate(epoch_order(1, epoch, 23)):
            taken = {4: 6, 5: 6, 22: 0}.get(index, index)
            assert (after[epoch].photos[row], after[epoch].labels[row]) == photos[taken]
            image = open_image(photos[taken][0])
            drawn = AUGMENT.draw(photo_generator(1, epoch, int(index)), (image.height, image.width))
            np.testing.assert_array_equal(after[epoch].x[row], AUGMENT.apply(image, drawn))
            assert (taken == index) == np.array_equal(after[epoch].x[row], before[epoch].x[row])


@needs_timm
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # timm leaves files open
def test_the_photo_in_the_place_of_a_bad_one_is_timms(photos):
    dataset = timm.data.create_dataset("", root=photos[0][0].parents[1])
    assert dataset.filenames(absolute=True) == [str(path) for path, _ in photos]
    with broken(photos[4], photos[5], photos[22]):
        (got,) = TrainingLoader(photos, AUGMENT, 23).batches(0)
        for path, index in zip(got.photos, epoch_order(0, 0, 23)):
            image, _ = dataset[int(index)]
            np.testing.assert_array_equal(np.asarray(image), np.asarray(open_image(path)))


@needs_timm
@pytest.mark.parametrize("batch_size", [1, 4, 23])
def test_an_epoch_has_as_many_batches_as_timms(photos, batch_size):
    dataset = timm.data.create_dataset("", root=photos[0][0].parents[1])
    for is_training, own in ((True, TrainingLoader(photos, AUGMENT, batch_size)),
                             (False, ValidationLoader(photos, PREPROCESSING, batch_size))):
        expected = timm.data.create_loader(dataset, (3, 12, 16), batch_size, is_training=is_training, num_workers=0,
                                           use_prefetcher=False, persistent_workers=False)
        assert len(own) == len(expected) == len(list(own.batches(*[0] * is_training)))


def test_a_bad_photo_is_left_out_of_the_validation(photos):
    reports = []
    validation = ValidationLoader(photos, PREPROCESSING, 2, report=lambda *bad: reports.append(bad))
    with broken(*photos[3:6]):
        for _ in range(2):
            got = list(validation.batches())
            assert [photo for batch in got for photo in batch.photos] == [path for path, _ in photos[:3] + photos[6:]]
            assert [len(batch.x) for batch in got] == [2, 1, *[2] * 8, 1]  # photos 4 and 5 would be a batch
    assert [path for path, _ in reports] == [path for path, _ in photos[3:6]]


def test_too_many_bad_photos_in_a_row_end_the_training(photos):
    with broken(*photos), pytest.raises(ImageError, match="20 photos in a row can't be read; the last one: .*not an"):
        list(TrainingLoader(photos, AUGMENT, 5).batches(0))
    with broken(*photos[:3]), pytest.raises(ImageError, match="3 photos in a row"):
        list(TrainingLoader(photos[:3], AUGMENT, 3).batches(0))
    with broken(*photos):
        assert list(ValidationLoader(photos, PREPROCESSING, 5).batches()) == []


# What can't be used


@pytest.mark.parametrize("options, text", [
    ({"batch_size": 24}, "batch-size 24: there are 23 photos"), ({"batch_size": 0}, "batch_size 0"),
    ({"batch_size": 2.0}, "batch_size 2.0"), ({"workers": 0}, "workers 0"), ({"seed": -1}, "seed -1"),
    ({"max_pixels": 0}, "max_pixels 0")], ids=str)
def test_training_refuses(photos, options, text):
    with pytest.raises(ArgumentError, match=text):
        TrainingLoader(photos, AUGMENT, **{"batch_size": 4, **options})


def test_validation_refuses(photos):
    with pytest.raises(ArgumentError, match="preprocessing of type dict"):
        ValidationLoader(photos, {}, 4)
    with pytest.raises(ArgumentError, match="4 input channels"):
        ValidationLoader(photos, PREPROCESSING, 4, in_chans=4)
    with pytest.raises(ArgumentError, match="batch_size True"):
        ValidationLoader(photos, PREPROCESSING, True)


def test_epochs_and_batches_that_there_are_not(photos):
    training = TrainingLoader(photos, AUGMENT, 4)
    assert list(training.batches(0, skip=5)) == []
    for arguments, text in (((-1,), "epoch -1"), ((0, 6), "skip 6: it must be a whole number of at most 5"),
                            ((0, -1), "skip -1")):
        with pytest.raises(ArgumentError, match=text):
            training.batches(*arguments)
