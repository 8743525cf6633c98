"""An explanation as one self-contained HTML file: it needs no server, no network and no other file."""
import base64
import hashlib
from pathlib import Path

from ..common.extras import install
from ..common.text import short
from ..display import pictures, wording
from ..errors import ArgumentError
from .blocks import block_of
from .evidence import ClassMap
from .probe import probe

HERE = Path(__file__).parent
CROP, RESIZED, HEAT, FEATURE = 448, 480, 64, 48  # most rows and columns of each kind of picture in the file
SHARP = 130  # a picture with fewer rows and columns is enlarged without smoothing
RIVALS = 5  # classes to subtract, besides the one asked for
SLAB_WIDTH, SLAB_HEIGHT, SLAB_LEAST = 34, 56, 1  # of a block's drawing, in the units of its SVG
ARC = 14  # height of the shortcut above it
BOUND = 0.5  # of the peak: a step whose limit is lower waits for memory most of its time


def render(explanation, chosen=None, minus=None) -> str:
    """Return the page of an Explanation, with the maps of `Explanation.view(chosen, minus)`.

    Raises ArgumentError if jinja2 is missing.
    """
    template = environment().get_template("page.html.jinja")
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    one, other = explanation.position(chosen), None if minus is None else explanation.position(minus)
    explanation.view(chosen, minus)  # raises for a class minus itself
    rivals = sorted({*range(len(explanation.classes))[:RIVALS], *([] if other is None else [other])})
    return template.render(
        e=explanation, chosen=one, minus=other, rivals=rivals, shown=key(one, other), key=key,
        file=Path(explanation.photo).name, style=style, script=script, policy=policy(style, script), colours=colours(),
        pictures=way(explanation), views=views(explanation, rivals), stages=stages(explanation),
        rows=rows(explanation), bound=bound(explanation), slab_box=f"0 0 {SLAB_WIDTH} {ARC + SLAB_HEIGHT}")


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
        short, wording.square, wording.pixels, wording.channels, wording.millions, wording.kib, wording.milliseconds,
        wording.percent, wording.signed)}
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


def key(one: int, other: int | None) -> str:
    """The name of a view on the page: of a class, by its position, or of one minus another."""
    return f"{one}" if other is None else f"{one}-{other}"


def views(e, rivals) -> list[dict]:
    """Each class, and each minus each of the rivals: the maps over the crop, their scales, and both in words."""
    pairs = [(one, other) for one in range(len(e.classes)) for other in (None, *rivals) if other != one]
    return [_view(e, e.classes[one] if other is None else e.classes[one].minus(e.classes[other]), key(one, other))
            for one, other in pairs]


def _view(e, view, name: str) -> dict:
    alone = isinstance(view, ClassMap)
    scale = e.scale if alone else float(abs(view.map).max())
    made = {"key": name, "scale": scale, "heat": pictures.data_uri(pictures.heat(view.map, scale, (HEAT, HEAT))),
            "alt": wording.where(view), "says": wording.says(view) if alone else wording.says_difference(view)}
    if e.patch is not None:
        values = e.over_pixels(view)
        scale = e.occlusion_scale if alone else float(abs(values).max())
        made |= {"falls_scale": scale, "falls": pictures.data_uri(pictures.colours(values, scale)),
                 "falls_alt": wording.where_occluded(view),
                 "compares": wording.compares(view.occlusion, e.agreement(view),
                                              "the logit" if alone else "the difference")}
    return made


def stages(e) -> list[dict]:
    """The blocks, grouped by stage, each with its drawing and its feature maps."""
    groups: dict[str, list[dict]] = {}
    probes = {block_of(one.layer): probe(e, one) for one in e.sums}
    for i, block in enumerate(e.blocks):
        low, high = (float(block.maps.min()), float(block.maps.max())) if block.maps.size else (0.0, 0.0)
        maps = [{"channel": int(channel), **picture(pictures.grey(values, low, high), FEATURE)}
                for channel, values in zip(block.channels, block.maps)]
        stage, label = wording.labels(block.name)
        item = {"id": i, "block": block, "label": label, "maps": maps, "low": low, "high": high,
                "slab": slab(e, block), "kernel": max(layer.kernel for layer in block.layers),
                "stride": max(layer.stride for layer in block.layers), "probe": probes.get(block.name)}
        groups.setdefault(stage, []).append(item)
    return [{"name": name, "blocks": blocks} for name, blocks in groups.items()]


def slab(e, block) -> dict:
    """A block's drawing: its height is proportional to the square root of its output's rows, its width to that of the
    channels. The page says so.
    """
    shapes = [other.output_shape for other in e.blocks]
    height, width = (length(size, max(shape[axis] for shape in shapes), room) for size, axis, room in (
        (block.output_shape[0], 0, SLAB_HEIGHT), (block.output_shape[2], 2, SLAB_WIDTH)))
    place = {"x": (SLAB_WIDTH - width) / 2, "y": ARC + (SLAB_HEIGHT - height) / 2, "width": width, "height": height}
    return {name: round(value, 1) for name, value in place.items()}


def length(value: int, most: int, room: int) -> float:
    """The drawn length for a value, `room` for the largest; never so small that it can't be seen."""
    return max(SLAB_LEAST, room * (value / most) ** 0.5)


def bound(e) -> list:
    """The steps with multiply-adds that wait for memory, the one with the lowest limit first, at most three."""
    waiting = [] if e.times is None else [step for step in e.times.steps if step.macs and step.limit < BOUND]
    return sorted(waiting, key=lambda step: step.limit)[:3]


def rows(e) -> list[dict]:
    """The chart's rows, one per step; bars in per cent of the longest time and of the peak."""
    if e.times is None:
        return []
    longest, made = max(step.seconds for step in e.times.steps), []
    for step in e.times.steps:
        share, block = e.times.share([step]), block_of(step.layers[-1])
        made.append({"name": step.name, "block": block, "first": not made or made[-1]["block"] != block,
                     "seconds": step.seconds, "share": share, "long": 100 * step.seconds / longest,
                     "full": min(100.0, 100 * share), "bytes": step.bytes, "limit": step.limit})
    return made


def colours() -> dict:
    """The colours of the map, (weakest, strongest), in SVG's notation."""
    return {name: [f"rgb({r}, {g}, {b})" for r, g, b in pair]
            for name, pair in (("speaks_for", pictures.FOR), ("against", pictures.AGAINST))}
