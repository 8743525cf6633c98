"""Models of a file of int8 weights: the bits of a model that rounds its float32 weights at load."""
import pickle
import re
import shutil

import numpy as np
import pytest
from engines import assert_same_bits, pixels
from small import save_photos, small_weights

import npefficient
from npefficient.errors import ArgumentError, WeightsError
from npefficient.jobs.distributed import Classifier
from npefficient.model.model import Model
from npefficient.network.quantization import QuantizedWeights, quantize
from npefficient.weights.quantized_file import read_stored, write_quantized
from npefficient.weights.weight_file import write_weights

X = pixels(2, 40, 33, 3)
LOST = (r"a model of int8 weights \(.*small-int8.h5\) has no float32 weights, and they can't be recovered: create it "
        r"from those that they were made from \(seed 0\)")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(float32 file, int8 file made of it); never changed."""
    place = tmp_path_factory.mktemp("int8")
    write_weights(place / "small.h5", small_weights())
    done = npefficient.quantize(place / "small.h5", place / "small-int8.h5")
    assert (done.target, done.target_size) == (place / "small-int8.h5", (place / "small-int8.h5").stat().st_size)
    assert re.fullmatch(r"Quantization\(tf_efficientnet_lite0, '.*small-int8.h5', [\d,]+ bytes\)", repr(done))
    return place / "small.h5", place / "small-int8.h5"


def model(file, **options):
    return npefficient.create_model(checkpoint_path=file, **{"num_threads": 1, **options})


@pytest.mark.parametrize("precision", [None, "int8"])
def test_the_same_bits_as_made_at_load(files, precision):
    floats, int8 = files
    expected, got = model(floats, precision="int8"), model(int8, precision=precision)
    assert (got.precision, got.labels, got.preprocessing, got.source) == (
        "int8", expected.labels, expected.preprocessing, expected.source)
    assert repr(got) == repr(expected) and got.pretrained_cfg == expected.pretrained_cfg
    assert got._network.packed.buffer.tobytes() == expected._network.packed.buffer.tobytes()
    assert_same_bits(got(X), expected(X))
    assert_same_bits(model(int8, backend="reference")(X), expected(X))


def test_a_float_file_is_float32_by_default(files):
    assert model(files[0]).precision == "float32" and npefficient.create_model("lite0").precision == "float32"


def test_float32_of_int8_weights_is_refused(files):
    message = ("precision 'float32': these weights are int8, and float32 can't be recovered from them; use those that "
               r"they were made from \(seed 0\), or precision='int8'")
    with pytest.raises(ArgumentError, match=message):
        model(files[1], precision="float32")
    with pytest.raises(ArgumentError, match=message):
        Model(read_stored(files[1]), precision="float32")
    with pytest.raises(ArgumentError, match="precision 'int4': it must be 'float32' or 'int8'"):
        model(files[1], precision="int4")


@pytest.mark.parametrize("wishes", [
    {"num_classes": 0}, {"num_classes": 0, "global_pool": "catavgmax"}, {"num_classes": 0, "global_pool": ""},
    {"global_pool": "max"}, {"num_classes": 5}], ids=str)
def test_what_changes_no_weights(files, wishes):
    expected, got = (model(file, precision="int8", **wishes) for file in files)
    assert (got.architecture, got.labels, got.source) == (expected.architecture, expected.labels, expected.source)
    assert_same_bits(got(X), expected(X))


def test_feature_maps(files):
    for expected, got in zip(*(model(file, precision="int8", features_only=True)(X) for file in files), strict=True):
        assert_same_bits(got, expected)


@pytest.mark.parametrize("overlay, wishes, message", [
    (True, {"num_classes": 3}, "num_classes 3: these int8 weights have 5, and only float32 weights can be ad"),
    (True, {"in_chans": 1}, r"in_chans 1: these int8 .*; use those that they were made from \(seed 0\)"),
    (True, {"num_classes": 0, "in_chans": 1}, "in_chans 1: these int8 weights have 3"),
    (False, {"num_classes": 3}, r"num_classes 3: these weights have 5 \('.*small-int8.h5'\); omit num_classes"),
    (False, {"global_pool": "catavgmax"}, "global_pool 'catavgmax' gives 2560 features: the classifier takes 1280; "
     r"choose a different pool, or num_classes=0, or, for a new classifier, the float32 weights .* from \(seed 0\)"),
])
def test_what_changes_weights_is_refused(files, overlay, wishes, message):
    with pytest.raises(ArgumentError, match=message):
        if overlay:
            npefficient.create_model("lite0", pretrained=True, pretrained_cfg_overlay={"file": files[1]}, **wishes)
        else:
            model(files[1], **wishes)


def test_settings_of_the_preprocessing(files):
    got = npefficient.create_model(checkpoint_path=files[1], pretrained_cfg_overlay={"input_size": (3, 64, 48)})
    assert got.precision == "int8" and got.preprocessing.input_size == (64, 48)


@pytest.mark.parametrize("name, arguments", [
    ("weights", ()), ("state_dict", ()), ("get_classifier", ()), ("reset_classifier", (3,)),
    ("set_classifier", (np.zeros((2, 1280)), np.zeros(2)))])
def test_what_needs_float32_weights_is_refused(files, name, arguments):
    got = model(files[1])
    with pytest.raises(ArgumentError, match=LOST):
        getattr(got, name)(*arguments)
    with pytest.raises(ArgumentError, match=LOST):
        got.load_state_dict(model(files[0]).state_dict())
    with pytest.raises(ArgumentError, match=LOST):
        print(got.classifier)
    assert_same_bits(got(X), model(files[1])(X))


@pytest.mark.parametrize("pool", [None, "max", "catavgmax", ""])
@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_a_classifier_is_left_out(files, backend, pool):
    expected, got = (model(file, precision="int8", backend=backend) for file in files)
    for one in (expected, got):
        one.reset_classifier(0, pool)
    assert (got.architecture, got.labels, got.source) == (expected.architecture, expected.labels, expected.source)
    assert got.num_classes == 0 and got.classifier is None
    assert_same_bits(got(X), expected(X))
    assert_same_bits(pickle.loads(pickle.dumps(got))(X), expected(X))
    with pytest.raises(ArgumentError, match=LOST):
        got.reset_classifier(5)


def test_a_model_without_classifier_has_none(files):
    assert model(files[1], num_classes=0).classifier is None


def test_explanations_are_the_same(files):
    photo = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    made, expected = (npefficient.explain(photo, one) for one in (model(files[1]), model(files[0], precision="int8")))
    assert made.precision == "int8" and len(made.classes) == len(expected.classes)
    for one, other in zip(made.classes, expected.classes):
        assert one.label == other.label
        assert_same_bits(one.map, other.map)


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_copies_and_saved_models(files, backend, tmp_path):
    made = model(files[1], backend=backend)
    copy = pickle.loads(pickle.dumps(made))
    assert (copy.precision, copy.backend, len(pickle.dumps(made)) < 2000) == ("int8", backend, True)
    assert_same_bits(copy(X), made(X))
    made.save(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == files[1].read_bytes()
    with pytest.raises(ArgumentError, match="again.h5' exists already"):
        made.save(tmp_path / "again.h5")


def test_a_model_that_was_made_from_float32_is_saved_in_float32(files, tmp_path):
    model(files[0], precision="int8").save(tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == files[0].read_bytes()


def test_weights_in_memory():
    weights = quantize(small_weights())
    made = Model(weights, num_threads=1)
    assert made.precision == "int8" and isinstance(made.stored_weights(), QuantizedWeights)
    assert_same_bits(pickle.loads(pickle.dumps(made))(X), made(X))
    classifier = weights.layers["classifier"]
    classifier.scale[0] = np.nan
    with pytest.raises(WeightsError, match="layer 'classifier': its scale holds nan"):
        Model(weights)


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_a_file_that_has_changed_is_noticed(files, backend, tmp_path):
    path = shutil.copy(files[1], tmp_path / "small.h5")
    made = model(path, backend=backend)
    pickled = pickle.dumps(made)
    for other in (lambda: write_quantized(path, quantize(small_weights(5, seed=1)), force=True),
                  lambda: write_weights(path, small_weights(5, seed=1), force=True)):
        other()
        with pytest.raises(WeightsError, match=f"the weights of '{path}' have changed since this model was created"):
            made.stored_weights()
        with pytest.raises(WeightsError, match="no longer those of the model that was pickled"):
            pickle.loads(pickled)


def test_load_weights_refuses(files):
    with pytest.raises(WeightsError, match="small-int8.h5': it holds int8 weights, from which those in float32 can't"):
        npefficient.load_weights(files[1])


def test_classifier_of_ray(files, tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("ray")
    batch = {"path": np.array(list(map(str, save_photos(tmp_path, 3))), object)}
    tables = [Classifier(file, precision=precision, topk=2)(batch)
              for file, precision in zip((*files, files[1]), ("int8", "int8", None))]
    tables.append(Classifier(read_stored(files[1]), topk=2)(batch))
    assert all(table.to_pylist() == tables[0].to_pylist() for table in tables)
    settings = [table.schema.metadata for table in tables]
    assert settings[1] == settings[2] == settings[3] and b"int8" in str(settings[3]).encode()


# --- npefficient.quantize --------------------------------------------------------------------------------------------


def test_quantize_refuses(files, tmp_path):
    floats = shutil.copy(files[0], tmp_path / "small.h5")
    with pytest.raises(ArgumentError, match="small.h5' is the source itself, and its float32 weights would be lost"):
        npefficient.quantize(floats, floats, force=True)
    with pytest.raises(ArgumentError, match="small.h5' exists already"):
        npefficient.quantize(files[0], floats)
    with pytest.raises(ArgumentError, match="'.*a.safetensors': its name must end in .h5"):
        npefficient.quantize(floats, tmp_path / "a.safetensors")
    with pytest.raises(ArgumentError, match="nowhere.*its directory does not exist"):
        npefficient.quantize(floats, tmp_path / "nowhere" / "a.h5")
    with pytest.raises(WeightsError, match="small-int8.h5': it holds int8 weights"):
        npefficient.quantize(files[1], tmp_path / "a.h5")
    with pytest.raises(ArgumentError, match="source None: it must be the path of a file"):
        npefficient.quantize(None, tmp_path / "a.h5")
    assert floats.read_bytes() == files[0].read_bytes() and [path.name for path in tmp_path.iterdir()] == ["small.h5"]


def test_quantize_takes_checkpoints(files, tmp_path):
    npefficient.export(files[0], tmp_path / "small.safetensors")
    npefficient.quantize(tmp_path / "small.safetensors", tmp_path / "a.h5")
    assert_same_bits(model(tmp_path / "a.h5")(X), model(files[1])(X))
