"""Random brightness, contrast, saturation and hue, in random order.

Source: torchvision 0.28 `transforms/transforms.py` (ColorJitter) and `transforms/_functional_pil.py`, which timm 1.0
takes for its `--color-jitter`.
"""
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

ADJUSTMENTS = ("brightness", "contrast", "saturation", "hue")

Jitter = tuple[tuple[str, float], ...]  # (adjustment, factor), in the order in which they are applied


def draw_jitter(rng: np.random.Generator, strengths: tuple[float, ...]) -> Jitter:
    """Draw an order, and the factor of each adjustment.

    strengths: of brightness, contrast and saturation, whose factors are uniform in [max(0, 1 - strength),
        1 + strength]; and of hue, [-strength, strength] turns of the colour wheel. An adjustment of strength 0, or that
        is not given, is left out.
    """
    order, factors = rng.permutation(len(ADJUSTMENTS)), {}
    for adjustment, strength in zip(ADJUSTMENTS, strengths):
        if strength:
            low, centre = (-strength, 0.0) if adjustment == "hue" else (max(0.0, 1.0 - strength), 1.0)
            factors[adjustment] = rng.uniform(low, centre + strength)
    return tuple((ADJUSTMENTS[i], factors[ADJUSTMENTS[i]]) for i in order if ADJUSTMENTS[i] in factors)


def jittered(image: "Image", jitter: Jitter) -> "Image":
    """Apply the adjustments to a PIL image, RGB or grey; saturation and hue leave a grey one as it is."""
    from PIL import ImageEnhance

    enhancers = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast,
                 "saturation": ImageEnhance.Color}
    for adjustment, factor in jitter:
        image = _turned_hue(image, factor) if adjustment == "hue" else enhancers[adjustment](image).enhance(factor)
    return image


def _turned_hue(image: "Image", turns: float) -> "Image":
    """Add to the hue of Pillow's HSV, 8 bits that wrap around; the shift is rounded towards 0."""
    from PIL import Image

    if image.mode == "L":
        return image
    hue, saturation, value = image.convert("HSV").split()
    shifted = np.asarray(hue) + np.uint8(int(turns * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(shifted), saturation, value)).convert(image.mode)
