"""Networks with one input channel take grey photographs, as from timm's loader; those with two or four take none."""
import dataclasses
import io

import numpy as np
import pytest
from live import needs_timm, timm
from pictures import encoded, noise, photo
from PIL import Image

import npefficient
from npefficient import demo
from npefficient.commands import main
from npefficient.errors import ArgumentError
from npefficient.images.image import normalise, open_image, preview, transform, transform_batch
from npefficient.model.loading import load_weights
from npefficient.model.model import Model
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.network.preprocessing import CROP_MODES, Preprocessing
from npefficient.weights.adapt import adapt
from npefficient.weights.weight_file import write_weights

MODES = ("RGB", "L", "P", "RGBA", "LA", "CMYK", "I;16", "1", "YCbCr", "F")
UNEVEN = Preprocessing((48, 40), 0.8, "bicubic", (0.1, 0.4, 0.55), (0.2, 0.25, 0.3))


def weights_of(in_chans, num_classes=5):
    made = random_weights(architecture.build("lite0", num_classes, in_chans))
    return dataclasses.replace(made, preprocessing=Preprocessing((32, 32)))


@pytest.fixture
def written(tmp_path):
    """written(in_chans) -> a weight file."""
    def written(in_chans):
        write_weights(tmp_path / f"{in_chans}.h5", weights_of(in_chans), force=True)
        return str(tmp_path / f"{in_chans}.h5")

    return written


@needs_timm
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_transform_grey_equals_timm(mode, crop_mode):
    """timm's transform with the mean and std that its loader derives from three (`adapt_to_chs`)."""
    from timm.data.loader import adapt_to_chs

    p = dataclasses.replace(UNEVEN, crop_mode=crop_mode)
    pipeline = timm.data.create_transform((1, *p.input_size), interpolation=p.interpolation, crop_pct=p.crop_pct,
                                          crop_mode=crop_mode, mean=adapt_to_chs(p.mean, 1), std=adapt_to_chs(p.std, 1))
    expected = pipeline(photo(mode).convert("L")).numpy().transpose(1, 2, 0)
    got = transform(photo(mode), p, in_chans=1)
    assert got.shape == (48, 40, 1) and got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("format, mode", [("PNG", "RGB"), ("PNG", "P"), ("PNG", "I;16"), ("PNG", "LA"), ("JPEG", "RGB"),
                                          ("JPEG", "CMYK"), ("TIFF", "F"), ("GIF", "P"), ("WEBP", "RGBA")])
def test_open_image_grey_is_pillows(format, mode):
    file = io.BytesIO(encoded(format, mode))
    expected, got = Image.open(file).convert("L"), open_image(file, in_chans=1)
    assert got.mode == "L" and got.tobytes() == expected.tobytes()


def test_open_image_grey_turns_as_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    lying, upright = (np.asarray(open_image(io.BytesIO(encoded("PNG", exif=exif)), exif=wish, in_chans=1))
                      for wish in (False, True))
    assert np.array_equal(upright, np.rot90(lying, -1))


def test_normalise_takes_the_mean_of_three():
    got = normalise(np.array([[[0], [255]]], np.uint8), UNEVEN)
    np.testing.assert_array_equal(got, ((np.float32([0, 1]) - np.float32(0.35)) / np.float32(0.25)).reshape(1, 2, 1))


def test_transform_grey_takes_arrays_of_one_and_three_colours():
    grey = noise(60, 70, 1)
    expected = transform(Image.fromarray(grey[..., 0]), UNEVEN, in_chans=1)
    assert np.array_equal(transform(grey, UNEVEN, 1), expected)
    assert np.array_equal(transform(np.repeat(grey, 3, axis=2), UNEVEN, 1), expected)
    assert np.array_equal(transform(grey / 255, UNEVEN, 1), expected)
    batch = transform_batch([grey, grey], UNEVEN, 1)
    assert batch.shape == (2, 48, 40, 1) and np.array_equal(batch[1], expected)
    assert transform_batch([], UNEVEN, 1).shape == (0, 48, 40, 1)
    with pytest.raises(ArgumentError, match=r"shape \(60, 70, 1\): it must be \(rows, columns, 3\)"):
        transform(grey, UNEVEN)


def test_transform_grey_of_a_thin_photo_in_strips():
    got = transform(np.full((4000, 1, 3), 255, np.uint8), Preprocessing(), in_chans=1)
    assert np.array_equal(got, np.ones((224, 224, 1), np.float32))


def test_preview_grey():
    shown = preview(photo("RGB"), UNEVEN, in_chans=1)
    assert shown.photo.mode == "L" and shown.resized.shape[2] == 1 and shown.cropped.shape == (48, 40, 1)
    assert np.array_equal(normalise(shown.cropped, UNEVEN), transform(photo("RGB"), UNEVEN, in_chans=1))


def test_a_model_of_one_channel_takes_photographs(tmp_path):
    photo("P").save(tmp_path / "a.png")
    model = Model(weights_of(1), num_threads=1)
    x = transform(Image.open(tmp_path / "a.png").convert("L"), model.preprocessing, in_chans=1)
    assert np.array_equal(model.transform(tmp_path / "a.png"), x) and np.array_equal(model.transform(photo("P")), x)
    (got,) = npefficient.stream(model, [tmp_path / "a.png"])
    assert np.array_equal(got.outputs["classifier"], model(x[None])[0])
    labels, probabilities = zip(*model.classify(tmp_path / "a.png"))
    expected, classes = npefficient.top_k(npefficient.softmax(model(x[None]))[0], 5)
    assert probabilities == tuple(map(float, expected)) and labels == tuple(f"class {c}" for c in classes)


def test_a_grey_digit_is_what_it_was(tmp_path):
    """timm adapts the stem to one channel by summing over the colours: a grey photo keeps its logits, up to the sum's
    rounding to the weights' own precision, float16.
    """
    colour = load_weights(demo.weights_path())
    models = [Model(weights, num_threads=1) for weights in (colour, adapt(colour, in_chans=1))]
    for path in demo.digits():
        expected, got = (model(model.transform(path)[None]) for model in models)
        np.testing.assert_allclose(got, expected, atol=1e-3 * np.abs(expected).max())


def test_explain_grey(tmp_path):
    model = Model(adapt(load_weights(demo.weights_path()), in_chans=1), num_threads=1)
    got = npefficient.explain(demo.digits()[3], model, measure=False)
    assert got.classes[0].label == "three" and got.cropped.shape == (64, 64, 3) and got.heat_map().shape == (64, 64, 3)
    assert np.array_equal(got.cropped, np.repeat(got.cropped[..., :1], 3, axis=2)) and got.given.shape[2] == 3
    assert "<svg" in got.to_html() or "<img" in got.to_html()


@pytest.mark.parametrize("case", ["classify", "classify_many", "classify_written", "explain", "profile", "compare"])
def test_commands_take_photographs_for_one_channel(written, tmp_path, capsys, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    photo("RGB").save("a.png")
    arguments = {"classify": ["classify", "a.png", "--weights", written(1)],
                 "classify_many": ["classify", "a.png", "--weights", written(1), "--workers", "1"],
                 "classify_written": ["classify", "a.png", "--weights", written(1), "--output", "rows.csv"],
                 "explain": ["explain", "a.png", "--weights", written(1), "--png", "heat.png"],
                 "profile": ["profile", "a.png", "--weights", written(1), "--seconds", "0.02"],
                 "compare": ["compare", written(1), written(1), "a.png"]}[case]
    assert main(arguments) == 0, capsys.readouterr().err


@pytest.mark.parametrize("in_chans", [2, 4])
@pytest.mark.parametrize("case", ["classify", "classify_written", "explain", "profile", "validate", "finetune"])
def test_commands_refuse_photographs_for_other_numbers_and_write_nothing(written, tmp_path, capsys, monkeypatch, case,
                                                                         in_chans):
    monkeypatch.chdir(tmp_path)
    for label in "01":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            photo("RGB").save(tmp_path / "photos" / label / name)
    weights = ["--weights", written(in_chans)]
    arguments = {"classify": ["classify", "photos/0/a.png"], "explain": ["explain", "photos/0/a.png"],
                 "classify_written": ["classify", "photos", "--output", "rows.csv"],
                 "profile": ["profile", "photos/0/a.png"], "validate": ["validate", "photos", "--csv", "a.csv"],
                 "finetune": ["finetune", "photos", "-o", "mine.h5"]}[case]
    before = sorted(tmp_path.iterdir())
    assert main(arguments + weights) == 1
    text = f"npefficient: error: a network with {in_chans} input channels can't take photos, which have 3, or 1 if grey"
    assert text in capsys.readouterr().err and sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("call", [
    lambda model: model.transform(photo("RGB")), lambda model: model.classify(photo("RGB")),
    lambda model: npefficient.stream(model, []), lambda model: npefficient.explain(photo("RGB"), model),
    lambda model: npefficient.validate(model, "."), lambda model: transform(photo("RGB"), in_chans=4),
    lambda model: open_image("a.png", in_chans=4), lambda model: transform_batch([photo("RGB")], in_chans=4),
], ids=["transform", "classify", "stream", "explain", "validate", "image_transform", "open_image", "transform_batch"])
def test_calls_refuse_photographs_for_four_channels(call):
    with pytest.raises(ArgumentError, match="a network with 4 input channels can't take photos"):
        call(Model(weights_of(4), num_threads=1))


def test_stream_leaves_four_channels_to_a_preprocess_of_ones_own(tmp_path):
    photo("RGB").save(tmp_path / "a.png")
    model = Model(weights_of(4), num_threads=1)

    def four(image):
        return np.concatenate([transform(image, model.preprocessing), np.zeros((32, 32, 1), np.float32)], axis=2)

    (got,) = npefficient.stream(model, [tmp_path / "a.png"], preprocess=four)
    assert np.array_equal(got.outputs["classifier"], model(four(photo("RGB"))[None])[0])
