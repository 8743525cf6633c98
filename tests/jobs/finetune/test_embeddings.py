"""Embeddings: the engine's bits, computed once; what causes them to be computed again; caches that can't be used."""
import dataclasses
import os
import threading
import zipfile

import numpy as np
import pytest
from small import save_photos, small_model, small_weights

import npefficient.images.image
from npefficient.errors import ArgumentError
from npefficient.jobs.finetune import embeddings
from npefficient.jobs.finetune.embeddings import Store, embed, network_key
from npefficient.network.preprocessing import Preprocessing


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A cache for these tests; compiled code stays where it is."""
    monkeypatch.setattr(embeddings, "cache_directory", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "embeddings"


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    return save_photos(tmp_path / "photos", 6)


@pytest.fixture
def decoded(monkeypatch):
    """Names of the photos that were opened."""
    opened, open_image, lock = [], npefficient.images.image.open_image, threading.Lock()

    def watch(photo, **how):
        with lock:
            opened.append(photo.name)
        return open_image(photo, **how)

    monkeypatch.setattr(npefficient.images.image, "open_image", watch)
    return opened


@pytest.fixture
def said():
    return []


@pytest.fixture
def run(photos, said):
    """run() -> Embeddings of the photos, through a new Store."""
    def call(weights=None, photos=photos, folder=photos[0].parent):
        weights = weights or small_weights()
        return embed(weights, photos, Store(folder, weights, said.append), workers=2)

    return call


def expected(photos):
    x = np.stack([small_model().transform(photo) for photo in photos])
    return small_model().activations(x, ["global_pool"])["global_pool"]


def test_embed_has_the_engines_bits(photos):
    got = embed(small_weights(), photos, batch_size=2)
    assert np.array_equal(got.values, expected(photos)) and got.values.dtype == np.float32
    assert got.places.tolist() == list(range(6)) and got.bad == [] and got.computed == 6


def test_a_second_run_decodes_nothing(run, photos, decoded, said):
    first = run()
    assert first.computed == 6 and sorted(decoded) == [photo.name for photo in photos]
    decoded.clear()
    second = run()
    assert second.computed == 0 and decoded == [] and said == []
    assert np.array_equal(second.values, first.values) and np.array_equal(second.values, expected(photos))


def test_a_changed_photo_is_computed_again(run, photos, decoded):
    run()
    decoded.clear()
    before = photos[2].stat()
    photos[2].write_bytes(photos[3].read_bytes())
    got = run()
    assert decoded == ["00002.png"] and got.computed == 1
    assert np.array_equal(got.values[2], got.values[3]) and np.array_equal(got.values, expected(photos))
    os.utime(photos[2], ns=(before.st_atime_ns, before.st_mtime_ns))  # the old time set back changes the inode's
    assert run().computed == 1


def test_a_replaced_photo_of_the_same_size_and_time_is_computed_again(run, photos):
    run()
    before, other = photos[2].stat(), bytearray(photos[2].read_bytes())
    part = photos[2].with_suffix(".part")
    part.write_bytes(other)
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(part, photos[2])
    assert photos[2].stat().st_mtime_ns == before.st_mtime_ns and photos[2].stat().st_size == before.st_size
    assert run().computed == 1


def test_new_photos_are_added_and_gone_ones_forgotten(run, photos, tmp_path, place):
    run(photos=photos[:3])
    assert run(photos=photos[1:5]).computed == 2
    assert run(photos=photos[1:5]).computed == 0 and run(photos=photos[:1]).computed == 1
    file, = place.iterdir()
    size = file.stat().st_size
    assert run(photos=photos).computed == 5 and file.stat().st_size > size


def test_a_name_that_is_no_utf8_is_known_again(run, photos):
    odd = photos[0].with_name("\udce9\n.png")
    photos[0].rename(odd)
    assert run(photos=[odd, photos[1]]).computed == 2 and run(photos=[odd, photos[1]]).computed == 0


def test_the_folder_may_be_named_in_another_way(run, photos, monkeypatch):
    run()
    monkeypatch.chdir(photos[0].parent.parent)
    folder = photos[0].parent.relative_to(photos[0].parents[1])
    assert run(photos=[folder / photo.name for photo in photos], folder=folder).computed == 0


@pytest.mark.parametrize("change", [
    lambda w: dataclasses.replace(w, preprocessing=Preprocessing((32, 32), crop_pct=0.9)),
    lambda w: dataclasses.replace(w, parameters=w.parameters | {"bn2.bias": np.nextafter(w.parameters["bn2.bias"], 9)}),
    lambda w: small_weights(seed=1),
], ids=["preprocessing", "one_weight", "weights"])
def test_another_network_has_its_own(run, change):
    run()
    assert run(change(small_weights())).computed == 6 and run().computed == 0


def test_another_classifier_is_the_same_network(run):
    run()
    other = small_weights()
    layer = {"classifier.weight": np.zeros((5, 1280), np.float32), "classifier.bias": np.ones(5, np.float32)}
    assert run(dataclasses.replace(other, parameters=other.parameters | layer, labels=tuple("abcde"))).computed == 0


@pytest.mark.parametrize("what", ["__version__", "pillow"])
def test_the_key_knows_what_computes(monkeypatch, what):
    before = network_key(small_weights())
    assert before == network_key(small_weights()) and len(before) == 64
    place = "npefficient.common.version" if what == "__version__" else "PIL"
    monkeypatch.setattr(f"{place}.__version__", "9.9.9")
    assert network_key(small_weights()) != before


def test_photos_that_exif_data_turn_are_others(photos):
    assert network_key(small_weights(), exif=True) != network_key(small_weights())
    with pytest.raises(ArgumentError, match="exif=True with a store for exif=False"):
        embed(small_weights(), photos, Store(photos[0].parent, small_weights(), print), exif=True)


def test_precision_is_part_of_the_key(photos):
    assert network_key(small_weights(), precision="int8") != network_key(small_weights())
    with pytest.raises(ArgumentError, match="precision='int8' with a store for precision='float32'"):
        embed(small_weights(), photos, Store(photos[0].parent, small_weights(), print), precision="int8")


def test_bad_photos_are_left_out_and_tried_again(run, photos, decoded):
    photos[1].write_text("no picture")
    photos[4].unlink()
    got = run()
    assert got.places.tolist() == [0, 2, 3, 5] and got.computed == 4
    assert [photo for photo, _ in got.bad] == [photos[1], photos[4]]
    assert "00001.png': not an image" in got.bad[0][1] and "00004.png': no such file" in got.bad[1][1]
    assert np.array_equal(got.values, expected([photos[i] for i in (0, 2, 3, 5)]))
    decoded.clear()
    assert run().computed == 0 and sorted(decoded) == ["00001.png", "00004.png"]


def damage_middle(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(**arrays):
    """Damage a file and keep it readable: put these arrays in place of its own."""
    def damage(path):
        with np.load(path) as old:
            kept = dict(old)
        np.savez(path, **{k: v for k, v in (kept | arrays).items() if v is not None})

    return damage


def pickled(path):
    rewrite(values=np.array([{"a": 1}], object))(path)


@pytest.mark.parametrize("damage", [
    damage_middle, lambda path: path.write_bytes(path.read_bytes()[:-300]), lambda path: path.write_bytes(b""),
    lambda path: path.write_text("<html>"), pickled, rewrite(values=None), rewrite(key=np.zeros(64, np.uint8)),
    rewrite(values=np.zeros((6, 12), np.float32)), rewrite(values=np.full((6, 1280), np.nan, np.float32)),
    rewrite(stamps=np.zeros((5, 3), np.int64)), rewrite(names=np.zeros(2, np.uint8)),
], ids=["bit", "cut", "empty", "html", "pickle", "missing", "key", "shape", "nan", "stamps", "names"])
def test_a_damaged_cache_is_said_and_computed_again(run, photos, place, said, damage):
    run()
    file, = place.iterdir()
    damage(file)
    got = run()
    assert got.computed == 6 and np.array_equal(got.values, expected(photos))
    assert len(said) == 1 and f"cache '{file}' is damaged" in said[0] and "computed again" in said[0]
    assert run().computed == 0 and len(said) == 1


def test_a_cache_that_can_not_be_written_costs_time_only(run, photos, place, said):
    place.parent.write_text("a file where the directory should be")
    got = run()
    assert got.computed == 6 and np.array_equal(got.values, expected(photos))
    assert len(said) == 2 and "can't be read" in said[0] and "can't be written" in said[1]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows keeps no owner and no mode")
@pytest.mark.parametrize("loose", ["place", "file"])
def test_a_cache_that_others_can_write_is_not_used(run, photos, place, said, loose):
    """Somebody else's embeddings, with the right key, would become a classifier."""
    run()
    file, = place.iterdir()
    rewrite(values=np.ones((6, 1280), np.float32))(file)
    assert (run().values == 1).all() and said == []
    target = place if loose == "place" else file
    target.chmod(0o777)
    got = run()
    assert got.computed == 6 and np.array_equal(got.values, expected(photos))
    assert f"it can't be read (others can write '{target}', or own it); every photo is computed again" in said[0]


def test_a_full_disk_is_said_and_leaves_the_old_file(run, photos, place, said, monkeypatch):
    run(photos=photos[:2])

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(np, "savez", full)
        assert run().computed == 4
    assert len(said) == 1 and "can't be written (No space left on device)" in said[0]
    assert len(list(place.iterdir())) == 1 and run(photos=photos[:2]).computed == 0


def test_what_was_computed_before_an_interruption_is_kept(run, photos, monkeypatch):
    outcomes = npefficient.jobs.stream.stream

    def interrupted(*arguments, **how):
        for i, outcome in enumerate(outcomes(*arguments, **how)):
            if i == 4:
                raise KeyboardInterrupt
            yield outcome

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("npefficient.jobs.stream.stream", interrupted)
        run()
    assert run().computed == 2


def test_the_cache_forgets_what_was_used_longest_ago(run, photos, place, tmp_path, monkeypatch):
    folders = []
    for name in "abc":
        (tmp_path / name).mkdir()
        folders.append(save_photos(tmp_path / name, 2))
        run(photos=folders[-1], folder=folders[-1][0].parent)
        newest = max(place.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, ns=(10**9 * len(folders),) * 2)
    left = place / ".half.npz.part"
    left.write_bytes(bytes(100))
    os.utime(left, ns=(1, 1))
    assert run(photos=folders[0], folder=tmp_path / "a").computed == 0  # used just now
    size = newest.stat().st_size
    monkeypatch.setattr(embeddings, "LIMIT", 3 * size)
    run(photos=photos[:2])
    assert len(list(place.iterdir())) == 3 and not left.exists()
    assert [run(photos=found, folder=found[0].parent).computed for found in (folders[0], folders[2])] == [0, 0]
    assert run(photos=folders[1], folder=tmp_path / "b").computed == 2


def test_the_cache_is_for_its_owner_and_a_plain_zip(run, place):
    run()
    file, = place.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["key.npy", "names.npy", "stamps.npy", "values.npy"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
