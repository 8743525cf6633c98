"""An explanation as one self-contained HTML file: it needs no server, no network and no other file."""
import base64
import hashlib
from pathlib import Path

from ..common.extras import install
from ..common.text import short
from ..display import pictures, wording
from ..errors import ArgumentError
from .blocks import block_of

HERE = Path(__file__).parent
CROP, RESIZED, HEAT, FEATURE = 448, 480, 96, 48  # most rows and columns of each kind of picture in the file
SHARP = 130  # a picture with fewer rows and columns is enlarged without smoothing
SLAB_WIDTH, SLAB_HEIGHT, SLAB_LEAST = 34, 56, 5  # of a block's drawing, in the units of its SVG


def render(explanation, shown: int = 0) -> str:
    """Return the page of an Explanation, with the map of class number `shown`.

    Raises ArgumentError if jinja2 is missing.
    """
    template = environment().get_template("page.html.jinja")
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return template.render(
        e=explanation, shown=shown, file=Path(explanation.photo).name, style=style, script=script,
        policy=policy(style, script), colours=colours(), pictures=way(explanation), classes=classes(explanation),
        stages=stages(explanation), rows=rows(explanation))


def environment():
    """The template engine; it escapes every value."""
    try:
        import jinja2
    except ModuleNotFoundError as missing:
        if missing.name != "jinja2":
            raise
        raise ArgumentError(f"the page is made with jinja2, which is not installed: {install('explain')}") from missing
    made = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    made.filters |= {word.__name__: word for word in (
        short, wording.size, wording.pixels, wording.count, wording.duration, wording.percent, wording.signed)}
    return made


def policy(style: str, script: str) -> str:
    """The content security policy: only this style, this script, and pictures embedded in the page."""
    style, script = (base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in (style, script))
    return (f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
            "base-uri 'none'; form-action 'none'")


def picture(pixels, most: int) -> dict:
    """A picture for the template; "sharp": it is so small that its pixels should be visible."""
    return {"uri": pictures.data_uri(pictures.shrink(pixels, most)), "sharp": max(pixels.shape[:2]) < SHARP}


def way(e) -> dict:
    """The three pictures from the photo to the input."""
    return {"given": picture(e.given, RESIZED), "resized": picture(e.resized, RESIZED),
            "cropped": picture(e.cropped, CROP)}


def classes(e) -> list[dict]:
    """For each class its map over the crop, and its description."""
    return [{"one": one, "heat": pictures.data_uri(pictures.heat(one.map, e.scale, (HEAT, HEAT))),
             "says": wording.says(one), "alt": wording.where(one)} for one in e.classes]


def stages(e) -> list[dict]:
    """The blocks, grouped by stage, each with its drawing and its feature maps."""
    groups: dict[str, list[dict]] = {}
    for i, block in enumerate(e.blocks):
        maps = [{"channel": int(channel), "mean": float(mean), **picture(pictures.grey(values), FEATURE)}
                for channel, mean, values in zip(block.channels, block.means, block.maps)]
        stage, label = wording.labels(block.name)
        item = {"id": i, "block": block, "label": label, "maps": maps, "slab": slab(e, block)}
        groups.setdefault(stage, []).append(item)
    return [{"name": name, "blocks": blocks} for name, blocks in groups.items()]


def slab(e, block) -> dict:
    """A block's drawing: its height grows with the square root of its output rows, its width with that of its channels.
    """
    shapes = [other.output_shape for other in e.blocks]
    height, width = (least(size, max(shape[axis] for shape in shapes), room) for size, axis, room in (
        (block.output_shape[0], 0, SLAB_HEIGHT), (block.output_shape[2], 2, SLAB_WIDTH)))
    place = {"x": (SLAB_WIDTH - width) / 2, "y": (SLAB_HEIGHT - height) / 2, "width": width, "height": height}
    return {name: round(value, 1) for name, value in place.items()}


def least(value: int, most: int, room: int) -> float:
    """The drawn length for a value, from SLAB_LEAST to `room` for the largest."""
    return SLAB_LEAST + (room - SLAB_LEAST) * (value / most) ** 0.5


def rows(e) -> list[dict]:
    """The chart's rows, one per step; bars in per cent of the longest time and of the peak."""
    if e.times is None:
        return []
    longest, made = max(step.seconds for step in e.times.steps), []
    for step in e.times.steps:
        share, block = e.times.share([step]), block_of(step.layers[-1])
        made.append({"name": step.name, "block": block, "first": not made or made[-1]["block"] != block,
                     "seconds": step.seconds, "share": share, "long": 100 * step.seconds / longest,
                     "full": min(100.0, 100 * share)})
    return made


def colours() -> dict:
    """The colours of the map, (weakest, strongest), in SVG's notation."""
    return {name: [f"rgb({r}, {g}, {b})" for r, g, b in pair]
            for name, pair in (("speaks_for", pictures.FOR), ("against", pictures.AGAINST))}
