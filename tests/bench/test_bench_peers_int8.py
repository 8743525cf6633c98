"""Other engines in 8 bits: pictures for their calibration, and how wrong they are, beside their times."""
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from json_tables import tables

from npefficient.bench.peers import accuracy, onnx_file, onnx_int8_file, openvino_int8_file, peer, photographs
from npefficient.bench.peers import rounds as run
from npefficient.bench.peers.peer import Needs, Peer
from npefficient.errors import NpefficientError
from npefficient.network.preprocessing import Preprocessing

INSTALLED = [one for one in peer.PEERS if not one.obstacle("int8", 1)]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return photographs.make_photo_subject("lite0", tmp_path_factory.mktemp("small"), (47, 64))


def case(subject, batch=1, random=True):
    return run.Case(subject, "int8", batch, 1, random)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_calibration_has_each_photograph_its_corners_and_mirror_images(small):
    pictures = np.load(small.calibration)
    assert pictures.shape == (4 * 5 * 2, 47, 64, 3) and pictures.dtype == np.float32
    np.testing.assert_array_equal(pictures[0::2, :, ::-1], pictures[1::2])
    np.testing.assert_array_equal(pictures[::10], small.input(4))  # the whole photographs
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_corners_are_those_of_the_photograph(monkeypatch):
    """In a picture whose red is its column and whose green is its row, no crop lies elsewhere."""
    from PIL import Image

    columns, rows = np.meshgrid(np.arange(200), np.arange(100))
    ramp = Image.fromarray(np.stack([columns, 2 * rows, 0 * rows], 2).astype(np.uint8))
    monkeypatch.setattr(photographs, "photographs", lambda: ["ramp"])
    monkeypatch.setattr(photographs, "open_image", lambda path: ramp)
    found = photographs.calibration_pictures(replace(Preprocessing(), input_size=(50, 50), crop_pct=1.0))
    centres = found[::2].mean((1, 2))[:, :2] * 0.5 + 0.5  # back to 0..1
    expected = np.array([(1, 1), (0.75, 0.75), (1.25, 0.75), (0.75, 1.25), (1.25, 1.25)]) * 100 / 255
    np.testing.assert_allclose(centres, expected, atol=0.01)


def test_batches_have_one_size_and_every_picture(small):
    pictures = np.load(small.calibration)
    found = list(photographs.batches(small.calibration, 16))
    assert [len(x) for x in found] == [16, 16, 16]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([pictures, pictures[:8]]))


def test_without_official_weights_they_are_random_and_nothing_is_fetched(nothing_at_hand):
    assert photographs.at_hand("lite0").source.random == "weights"
    assert photographs.at_hand("lite4").architecture.name == "tf_efficientnet_lite4"


# --- files by the engines' own tools ---------------------------------------------------------------------------------


@pytest.fixture
def float_file(monkeypatch):
    """Instead of the network in float32, a line of text."""
    monkeypatch.setattr(onnx_file, "make",
                        lambda weights, target, *shape: Path(target).write_text(f"{weights} {shape}"))


def expected_pictures(subject, batch):
    return [x.transpose(0, 3, 1, 2) for x in photographs.batches(subject.calibration, batch)]


def test_openvino_is_quantised_with_every_picture(monkeypatch, float_file, small, tmp_path):
    saved = []

    def quantize(model, dataset, subset_size):
        return model, dataset, subset_size

    monkeypatch.setitem(sys.modules, "openvino_telemetry", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "nncf", SimpleNamespace(quantize=quantize, Dataset=list))
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(
        Core=lambda: SimpleNamespace(read_model=lambda path: Path(path).read_text()),
        save_model=lambda model, target, compress_to_fp16: saved.append((*model, target, compress_to_fp16))))
    openvino_int8_file.make("w", str(tmp_path / "m.xml"), 16, 47, 64, str(small.calibration))
    (model, pictures, count, target, halved), = saved
    assert model == "w (16, 47, 64)" and target == str(tmp_path / "m.xml") and not halved and count == len(pictures)
    with pytest.raises(ImportError):
        importlib.import_module("openvino_telemetry")
    for got, expected in zip(pictures, expected_pictures(small, 16), strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.flags.c_contiguous


def test_onnxruntime_is_quantised_with_every_picture(monkeypatch, float_file, small, tmp_path):
    """uint8 activations, int8 weights with a step for each output channel."""
    made = []

    def quantize_static(source, target, reader, **settings):
        made.append((Path(source).read_text(), target, list(iter(reader.get_next, None)), settings))

    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", SimpleNamespace(
        CalibrationDataReader=object, QuantFormat=SimpleNamespace(QDQ="QDQ"), quantize_static=quantize_static,
        QuantType=SimpleNamespace(QUInt8="uint8", QInt8="int8")))
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace())
    onnx_int8_file.make("w", str(tmp_path / "m.onnx"), 1, 47, 64, str(small.calibration))
    (model, target, pictures, settings), = made
    assert model == "w (1, 47, 64)" and target == str(tmp_path / "m.onnx")
    assert settings == {"quant_format": "QDQ", "per_channel": True, "activation_type": "uint8", "weight_type": "int8"}
    for got, expected in zip(pictures, expected_pictures(small, 1), strict=True):
        assert list(got) == ["x"]
        np.testing.assert_array_equal(got["x"], expected)


# --- what is right ---------------------------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_the_deviation_and_the_classes_kept():
    expected = np.array([[3, 0, 0, -3], [0, 3, -3, 0]], np.float32)
    deviation = 4.5**0.5
    got = expected + np.array([[0.3, -0.3, 0.3, -0.3]], np.float32)
    assert accuracy.accuracy("it", got, expected) == {"error": pytest.approx(0.3 / deviation), "kept": 2}
    got[1] = [9, 0, 0, 0]
    assert accuracy.accuracy("it", got, expected)["kept"] == 1


@pytest.mark.parametrize("change", [lambda y: y[:, :-1], lambda y: y * np.nan, lambda y: y + 1e-6])
def test_logits_that_cannot_be_those_of_8_bits_are_refused(change):
    expected = np.random.default_rng(0).normal(size=(4, 10))
    with pytest.raises(NpefficientError, match="it: WRONG RESULT, .* nothing is timed"):
        accuracy.accuracy("it", change(expected), expected)


@pytest.mark.parametrize("error, kept, random, expected", [
    (0.1, 4, False, ""), (0.1, 3, False, "class lost"), (0.6, 3, False, "WRONG"), (float("nan"), 4, False, "WRONG"),
    (0.1, 0, True, ""), (0.6, 4, True, "WRONG")])
def test_a_large_error_or_a_lost_class_is_marked(error, kept, random, expected):
    assert accuracy.verdict(error, kept, random) == expected


@pytest.mark.parametrize("batch", [1, 3, 4, 6])
def test_every_photograph_is_judged_as_it_is_timed(small, batch):
    sizes = []

    def infer(x):
        sizes.append(len(x))
        return x.mean((1, 2))

    got = accuracy.logits_of(lambda x: x, infer, small, batch)
    np.testing.assert_array_equal(got, small.input(4).mean((1, 2)))
    assert set(sizes) == {batch}


def test_ours_has_to_be_its_definition(small):
    logits = small.logits(4, "int8")
    found = run.verified("npefficient", case(small, 4), logits, np.asarray, lambda x: logits)
    assert 0.001 < found["error"] < 0.5
    changed = logits.copy()
    changed[3, 7] = np.nextafter(changed[3, 7], np.float32(9))
    with pytest.raises(NpefficientError, match="npefficient, lite0 47x64, int8, batch 4, 1 thread: WRONG RESULT"):
        run.verified("npefficient", case(small, 4), changed, np.asarray, lambda x: changed)
    assert run.verified("openvino", case(small, 4), changed, np.asarray, lambda x: changed)["error"] < 0.5


# --- the table -------------------------------------------------------------------------------------------------------


def test_installed_peers_in_8_bits_and_we_are_judged_by_the_photographs(bench, tmp_path, monkeypatch, small):
    monkeypatch.setattr(peer, "PEERS", tuple(INSTALLED))
    monkeypatch.setattr(run, "make_photo_subject", lambda name, directory: small)
    code, out, err = bench("peers", "--precision", "int8", "--batch", "3", "--rounds", "1", "--seconds", "0.01",
                           "--json", tmp_path / "p.json")
    rows = tables(tmp_path / "p.json")["peers"]
    assert code == 0 and "left out" not in err
    assert [row["engine"] for row in rows] == ["npefficient", *(one.engine for one in INSTALLED)]
    for row in rows:
        assert row["batch"] == 3 and row["precision"] == "int8" and row["min ms"] <= row["median"]
        assert 0.001 < row["error"] < 0.5
    lines = out.splitlines()
    heading = next(line for line in lines if line.startswith("model "))
    assert lines[lines.index(heading) - 1] == "int8, 1 round of 0.01 s, in ms for a batch"
    assert heading.split()[-4:] == ["weights", "error", "kept", "verdict"]


def result(error, kept):
    return {"minimum": 1.0, "median": 1.0, "start": 1.0, "memory": 10**8, "error": error, "kept": kept}


@pytest.mark.parametrize("random", [False, True])
def test_the_worst_round_counts_and_random_weights_have_no_classes(small, random):
    rows = []
    numpy = Peer("numpy", "numpy", int8=Needs())
    run.add_rows(SimpleNamespace(add=lambda **row: rows.append(row)), case(small, random=random),
                 {peer.OURS: [result(0.04, 4), result(0.04, 4)], numpy: [result(0.1, 4), result(0.2, 3)]})
    ours, theirs = ({key: row[key] for key in ("weights", "error", "kept", "verdict")} for row in rows)
    if random:
        assert ours == {"weights": "random", "error": 0.04, "kept": None, "verdict": ""}
        assert theirs == {"weights": "random", "error": 0.2, "kept": None, "verdict": ""}
    else:
        assert ours == {"weights": "official", "error": 0.04, "kept": 4, "verdict": ""}
        assert theirs == {"weights": "official", "error": 0.2, "kept": 3, "verdict": "class lost"}


def test_why_a_peer_is_left_out():
    known = {one.engine: one for one in peer.PEERS}
    assert known["ncnn"].obstacle("int8", 1) == "compared in float32 only, not in int8"
    ghost = Peer("ghost", "ghost", Needs(("numpy",)), Needs(("numpy", "no_such_module")), batches=False)
    assert ghost.obstacle("int8", 2) == "not installed: no_such_module"
    assert ghost.obstacle("float32", 1) is None
    assert ghost.obstacle("float32", 2) == "takes one picture at a time, not 2"


def test_no_two_engines_read_each_others_files(small):
    """A file that already exists is not made again: an engine could get one of another precision."""
    ways = [(one, precision) for one in peer.PEERS for precision in ("float32", "int8")
            if one.needs(precision) and one.needs(precision).file]
    files = {(run.Case(small, precision, 1, 1).file(one), one.needs(precision).file[0]) for one, precision in ways}
    assert len(files) == len({file for file, _ in files}) == len({maker for _, maker in files})
