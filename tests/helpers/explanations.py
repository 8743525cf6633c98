"""Explanations for tests, made once, and names that try to break out of a page."""
import dataclasses
import functools

import numpy as np

import npefficient
from npefficient import demo
from npefficient.explanation import Times, times

LONG = "long " * 2000
HOSTILE = {
    "script": "<script>window.hacked = 1</script>",
    "closes_tags": "</title></style></script><script>window.hacked = 1</script>",
    "attribute": "\" onerror=\"window.hacked = 1\" x=\"",
    "single_quotes": "' onmouseover='window.hacked = 1",
    "image": "<img src=x onerror=window.hacked=1>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "entity": "&lt;script&gt; &amp;",
    "newline": "one\ntwo\r\x1b[31m\x00",
    "long": LONG,
    "one_word": "x" * 10_000,
    "right_to_left": "\u202egnp.exe",
    "no_utf8": "photo\udcff.png",
}


@functools.cache
def digits():
    """The embedded model."""
    return npefficient.create_model(checkpoint_path=demo.weights_path(), num_threads=1)


@functools.cache
def digits_in_int8():
    return npefficient.create_model(checkpoint_path=demo.weights_path(), num_threads=1, precision="int8")


@functools.cache
def digit(name: str = "three", precision: str = "float32"):
    """The explanation of one of the embedded digits, with made-up times instead of measured ones."""
    model = digits() if precision == "float32" else digits_in_int8()
    made = npefficient.explain(demo.DATA / "digits" / f"{name}.png", model, measure=False)
    layers = [layer for layer in made.network.layers(64, 64)]
    steps = tuple(times.StepTime(layer.name, (layer.name,), layer.macs, 2 * layer.macs, 1e-6 * (1 + i),
                                 4 * (layer.params + layer.activations), 0.125 if layer.op == "classifier" else 1.0)
                  for i, layer in enumerate(layers))
    return dataclasses.replace(made, times=Times(steps, 1e11, 9, {"L1": 1e11, "L2": 2.5e10}))


def renamed(explanation, photo: str, label: str):
    """The same explanation of a photo with another name, with other class names."""
    classes = tuple(dataclasses.replace(one, label=label) for one in explanation.classes)
    source = dataclasses.replace(explanation.source, name=label)
    return dataclasses.replace(explanation, photo=photo, classes=classes, source=source)


def noise(*shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
