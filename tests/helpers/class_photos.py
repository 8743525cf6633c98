"""Folders of small photos, one folder for each class."""
import numpy as np
from PIL import Image

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200), (200, 30, 200))


def save_classes(folder, **counts):
    """folder/<class>/00.png .. for each class=count; each class has its own colour, each photo its own noise."""
    for index, (label, count) in enumerate(counts.items()):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            noise = np.random.default_rng([index, i]).integers(-25, 26, (24, 24, 3))
            pixels = (noise + COLOURS[index % len(COLOURS)]).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i:02}.png")
    return folder
