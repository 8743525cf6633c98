"""Train by one recipe here and with timm, and compare the accuracy on held-out pictures.

    pip install -e ".[test]" scikit-image
    python notebooks/train_beside_timm.py digits
    python notebooks/train_beside_timm.py textures

digits: scikit-learn's handwritten digits, 64x64, from random weights, as `train_digits.py` trains the embedded model.
textures: ten surfaces out of scikit-image's pictures, 20 crops of each, from the ImageNet weights. A picture is cut
into vertical strips. Of three, the first has the crops to train on, the third those held out. First the classifier
alone is fitted (`npefficient finetune`), and from there the network is trained by the recipe few-photos.
textures-validation: the same, but measured on crops from the second of three strips. The recipe was chosen by these.

timm's run has timm's model, initial weights, transform, loss, optimizer and schedule, put together as its `train.py`
does. It draws other random numbers, so the two runs of a seed differ as those of two seeds do. What is compared is the
accuracy after the last epoch.
"""
import argparse
import functools
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import train_digits
from PIL import Image

import npefficient
from npefficient.bench.peers.engines import import_timm
from npefficient.training.recipe_files import read_recipe

SURFACES = ("brick", "grass", "gravel", "ihc", "hubble_deep_field", "retina", "moon", "coins", "motorcycle_left",
            "coffee")  # scikit-image's file names
STRIP, CROP, EACH = 64, 32, 20  # columns of a strip; rows and columns of a crop; crops of a surface in each part
# options of `npefficient.train`
DIGITS = vars(read_recipe("finetune")) | train_digits.OPTIONS
TEXTURES = vars(read_recipe("few-photos")) | dict(model="lite0", weights="lite0", img_size=64, crop_pct=1.0)


# ---- the pictures: folder/train and folder/held_out, with a folder for each class ----

def write_digits(folder):
    for name, part in zip(("train", "held_out"), train_digits.split()):
        train_digits.write_photos(folder / name, *part)


def write_textures(folder, held_out=2):
    """`held_out`: which of three strips, 1 or 2, is held out; 0 is to train on."""
    import skimage

    rng = np.random.default_rng(0)
    for name in SURFACES:
        (file,) = (Path(skimage.__file__).parent / "data").glob(f"{name}.*")
        picture = Image.open(file).convert("L")
        width, height = picture.size
        for part, first in (("train", 0), ("held_out", held_out)):
            strips = np.arange(first, width // STRIP, 3) * STRIP
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(EACH):
                x, y = rng.choice(strips) + rng.integers(STRIP - CROP + 1), rng.integers(height - CROP + 1)
                picture.crop((x, y, x + CROP, y + CROP)).save(place / f"{number:02}.png")


TASKS = {"digits": (write_digits, DIGITS), "textures": (write_textures, TEXTURES),
         "textures-validation": (functools.partial(write_textures, held_out=1), TEXTURES)}


# ---- the runs: each returns the accuracy on the held-out pictures ----

def fit_head(folder, options, seed, threads):
    """Fit the classifier alone to all the pictures to train on, and write the network as folder/head.h5."""
    base = npefficient.create_model(options["weights"], pretrained=True).weights()
    how = replace(base.preprocessing, input_size=(options["img_size"],) * 2, crop_pct=options["crop_pct"])
    fitted = npefficient.finetune(folder / "train", folder / "head.h5", weights=replace(base, preprocessing=how),
                                  seed=seed, refit=True, force=True, workers=threads)
    measured = npefficient.validate(fitted.model(num_threads=1), folder / "held_out", workers=threads)
    return measured.top1 / len(measured.photos)


def train_here(folder, options, seed, threads):
    result = npefficient.train(folder / "train", folder / "here.h5", val_dir=folder / "held_out", force=True,
                               num_threads=threads, **options | {"seed": seed})
    return result.epochs[-1].val_top1


def train_with_timm(folder, options, seed, threads):
    timm, torch = import_timm()
    from timm.data import create_dataset, create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils.model import freeze_batch_norm_2d

    torch.set_num_threads(threads)
    for start in (random.seed, np.random.seed, torch.manual_seed):
        start(seed)
    classes = len(list((folder / "train").iterdir()))
    model = timm.create_model("tf_efficientnet_lite0", num_classes=classes, drop_rate=options["drop"])
    if options["weights"] != "nothing":
        parameters = npefficient.load_weights(options["weights"]).parameters
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in parameters.items()})
    if options["freeze_bn"]:
        freeze_batch_norm_2d(model)
    model = model.to(memory_format=torch.channels_last)
    how = dict(input_size=(3, options["img_size"], options["img_size"]), batch_size=options["batch_size"],
               mean=(0.5,) * 3, std=(0.5,) * 3, use_prefetcher=False, num_workers=0, persistent_workers=False,
               device=torch.device("cpu"))
    training = create_loader(create_dataset("", folder / "train"), is_training=True, interpolation="random",
                             **{name: options[name] for name in ("scale", "hflip", "color_jitter")},
                             auto_augment=options["aa"], **how)
    held_out = create_loader(create_dataset("", folder / "held_out"), crop_pct=options["crop_pct"],
                             interpolation="bicubic", **how)
    optimizer = create_optimizer_v2(model, options["opt"], options["lr"], options["weight_decay"])
    schedule, _ = create_scheduler_v2(optimizer, options["sched"], options["epochs"],
                                      warmup_epochs=options["warmup_epochs"], warmup_lr=options["warmup_lr"])
    loss_of = LabelSmoothingCrossEntropy(options["smoothing"])
    for epoch in range(options["epochs"]):
        model.train()
        for x, labels in training:
            optimizer.zero_grad()
            loss_of(model(x.contiguous(memory_format=torch.channels_last)), labels).backward()
            optimizer.step()
        schedule.step(epoch + 1)
    model.eval()
    with torch.inference_mode():
        hits = [int((model(x).argmax(1) == labels).sum()) for x, labels in held_out]
    return sum(hits) / len(held_out.dataset)


RUNS = {"npefficient": train_here, "timm": train_with_timm}


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Train here and with timm, and compare the held-out accuracy.")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a run each (default: 0 1 2)")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="default: both")
    parser.add_argument("--threads", type=int, default=1, help="processors to use (default: %(default)s)")
    parser.add_argument("--no-freeze-bn", action="store_false", dest="freeze_bn", help="train batch norm in each task")
    arguments = parser.parse_args(arguments)

    write, options = TASKS[arguments.task]
    options = options | {"freeze_bn": options["freeze_bn"] and arguments.freeze_bn}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder)
        count = len(list((folder / "held_out").rglob("*.png")))
        print(f"right answers to {count} held-out pictures")
        for seed in arguments.seeds:
            shares, start = {}, options["weights"]
            if start != "nothing":
                shares["classifier alone"] = fit_head(folder, options, seed, arguments.threads)
                start = folder / "head.h5"
            for name in arguments.runs:
                shares[name] = RUNS[name](folder, options | {"weights": start}, seed, arguments.threads)
            print(f"seed {seed}: " + ", ".join(f"{name} {share:.2%}" for name, share in shares.items()), flush=True)


if __name__ == "__main__":
    main()
