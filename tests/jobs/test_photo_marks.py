"""Photos are recognised by a few bytes, wherever they are and whatever they are called."""
import dataclasses
import hashlib
import os

from class_photos import save_classes
from small import small_weights

from npefficient.jobs import photo_marks
from npefficient.jobs.finetune import embeddings
from npefficient.jobs.finetune.finetuning import finetune
from npefficient.jobs.photo_marks import BLOCK, count_marked, photo_mark
from npefficient.network.parameters import PHOTO_MARK, Source


def test_a_mark_is_as_specified(tmp_path):
    for size in (0, 5, BLOCK, 3 * BLOCK, 5 * BLOCK + 1):
        data = os.urandom(size)
        (tmp_path / "a.jpg").write_bytes(data)
        expected = hashlib.sha256(size.to_bytes(8, "little"))
        for place in (0, max(0, (size - BLOCK) // 2), max(0, size - BLOCK)):
            expected.update(data[place:place + BLOCK])
        assert photo_mark(tmp_path / "a.jpg") == expected.digest()[:PHOTO_MARK]


def test_marks_are_sorted_and_each_is_there_once(tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_bytes(b"%d" % (i // 2))
    paths = [*tmp_path.iterdir(), tmp_path / "none.jpg", tmp_path]
    marks = photo_marks.photo_marks(paths)
    each = [marks[at:at + PHOTO_MARK] for at in range(0, len(marks), PHOTO_MARK)]
    assert len(each) == 5 and each == sorted(set(each)) and photo_marks.photo_marks(reversed(paths)) == marks
    assert photo_marks.photo_marks(paths[:-4], photo_marks.photo_marks(paths[2:])) == marks


def test_copies_are_known_and_changed_photos_are_not(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    marks = photo_marks.photo_marks([tmp_path / "a.jpg"])
    (tmp_path / "copy.png").write_bytes(b"one")
    (tmp_path / "b.jpg").write_bytes(b"two")
    assert count_marked([tmp_path / name for name in ("a.jpg", "copy.png", "b.jpg", "none.jpg")], marks) == 2


def test_without_marks_no_photo_is_read(monkeypatch):
    monkeypatch.setattr(photo_marks, "open_regular", None)
    assert count_marked(["a.jpg"], b"") == 0


def test_what_is_held_out_though_layers_were_trained_on_it_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "cache_directory", lambda: tmp_path / "cache")
    photos, said = save_classes(tmp_path / "photos", red=12, green=14, blue=10), []
    first = finetune(photos, weights=small_weights())
    marks = photo_marks.photo_marks(photo for photo, chosen in zip(first.photos, first.validation) if not chosen)
    trained = dataclasses.replace(small_weights(), source=Source("run", "", "trained", marks))
    same = finetune(photos, weights=trained)
    assert same.warnings == [] and same.weights.source.photos == marks
    other = finetune(photos, weights=same.weights, seed=7, say=said.append)
    seen = sum(other.validation & ~first.validation)
    (text,) = other.warnings
    assert 0 < seen < 7 and said == [text] and f"were fitted to {seen} of the 7 photos held out" in text
