"""A user's program as a type checker sees it: mypy reads it (pyproject.toml), nothing runs it."""
from collections.abc import Generator
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from PIL.Image import Image

import npefficient
from npefficient.jobs.stream import Outcome

model = npefficient.create_model("lite0", pretrained=True, num_threads=2).eval()
assert_type(model, npefficient.Model)
assert_type(model.classify("dog.jpg", topk=3), list[tuple[str, float]])
assert_type(model(model.transform(Path("dog.jpg"))[None]), np.ndarray)
assert_type(model.labels, tuple[str, ...])
assert_type(model.state_dict(), dict[str, np.ndarray])
model.cuda()  # type: ignore[attr-defined]  # what timm's models have and ours have not

body = npefficient.create_model("lite0", features_only=True, out_indices=(2, 3))
assert_type(body, npefficient.FeatureModel)
assert_type(body(np.zeros((1, 64, 64, 3), np.float32)), list[np.ndarray])

assert_type(npefficient.open_image("dog.jpg"), Image)
transform = npefficient.create_transform(**npefficient.resolve_model_data_config(model))
assert_type(transform(np.zeros((9, 9, 3))), np.ndarray)
assert_type(npefficient.top_k(npefficient.softmax([[1.0, 2.0]]), 1), tuple[np.ndarray, np.ndarray])
assert_type(npefficient.stream(model, npefficient.find_photos("photos")), Generator[Outcome, None, None])
assert_type(npefficient.convert("model.pth").warnings, tuple[str, ...])
assert_type(npefficient.quantize("mine.h5", "mine-int8.h5", force=True).target_size, int)
assert_type(npefficient.explain("dog.jpg", model).to_html(), str)
assert_type(npefficient.validate(model, "photos").top1, int)
assert_type(npefficient.finetune("photos").accuracy, float)
assert_type(npefficient.train("photos", "mine.h5", epochs=2).best.val_top1, float)
labels = np.zeros(2, np.int64)
assert_type(npefficient.loss_and_gradients(model, np.zeros((2, 64, 64, 3), np.float32), labels),
            tuple[float, dict[str, np.ndarray]])
assert_type(npefficient.get_pretrained_cfg("lite0").to_dict(), dict[Any, Any])
npefficient.Classifier(npefficient.load_weights("mine.h5"), topk=1)
npefficient.stream(model, "dog.jpg", worker=2)  # type: ignore[call-arg]
