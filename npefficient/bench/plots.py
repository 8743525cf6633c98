"""Plots of a ladder, and of layers under the machine's roofline."""
import math
from pathlib import Path

from ..common.paths import replacing
from ..common.picture_files import check_picture
from ..common.text import plain

COLOURS = {"stem": "#8c564b", "depthwise": "#d95f02", "pointwise": "#1b6ca8", "pool": "#7f7f7f",
           "classifier": "#2a9d5c", "quantize": "#c9a227"}
GREY, PEAK = "#666666", "#b2182b"


def _figure(width: float, height: float):
    """An empty figure, its size in inches, and its axes; no window and no global state."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _write(figure, path: Path) -> None:
    with replacing(path, force=True) as part:
        figure.savefig(part, format=check_picture(path), dpi=150, bbox_inches="tight")
    print(f"wrote {plain(path)}: the picture")


def ladder(rows: list[dict], title: str, peak: float, path: Path, unit: str) -> None:
    """A bar for each rung of `bench/ladder.py` on a log scale, with the peak as a line.

    peak: operations per second; unit: "FLOP" or "OP", what an operation is called
    """
    speed = f"G{unit}/s"
    rows = [row for row in rows if speed in row]  # without those that this processor lacks something for
    figure, axes = _figure(8, 0.45 * len(rows) + 1.5)
    speeds = [row[speed] for row in rows]
    axes.barh([row["rung"] for row in rows], speeds, color=COLOURS["pointwise"], height=0.7)
    axes.axvline(peak / 1e9, color=PEAK, linewidth=1.5)
    lowest = 10.0 ** math.floor(math.log10(min(speeds)) - 0.1)
    axes.set(xscale="log", xlim=(lowest, peak / 1e9 * 1.5), xlabel=f"{speed} of one core")
    axes.set_title(title, loc="left", pad=24)
    axes.tick_params("y", length=0)
    axes.invert_yaxis()
    beside = axes.get_yaxis_transform()  # x as a share of the axes' width, y a rung
    for i, row in enumerate([{speed: speed, "x before": "x before"}, *rows], start=-1):
        for x, key in ((1.14, speed), (1.28, "x before")):
            text = row[key] if isinstance(row[key], str) else "" if row[key] is None else f"{row[key]:.3g}"
            axes.text(x, i if i >= 0 else -0.7, text, transform=beside, ha="right", va="center", fontsize=9)
    axes.annotate(f"peak {peak / 1e9:.0f}", (peak / 1e9, 1), (0, 3), xycoords=axes.get_xaxis_transform(), color=PEAK,
                  textcoords="offset points", ha="right", fontsize=9)
    _write(figure, path)


def roofline(rows: list[dict], title: str, unit: str, peak: float, reads: dict[str, float], path: Path) -> None:
    """A point for each layer of `bench/kernels.py`: its speed over operations per byte, below the machine's roofline.

    rows: of the table, with a unit of 1e9 operations per second, and "operations per byte"; peak: operations per
    second; reads: bytes per second from each level of memory
    """
    from matplotlib.ticker import LogLocator

    figure, axes = _figure(9, 6)
    intensities = [row["operations per byte"] for row in rows]
    left, right = min(intensities) / 2, max(intensities) * 3
    bottom, top = min(row[unit] for row in rows) / 3, peak / 1e9 * 1.5
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top), title=title,
             xlabel="operations per byte that has to be read or written at least", ylabel=f"{unit} of one core")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    for op, colour in COLOURS.items():
        chosen = [row for row in rows if row["op"] == op]
        if chosen:
            axes.scatter([row["operations per byte"] for row in chosen], [row[unit] for row in chosen], color=colour,
                         s=36, alpha=0.8, label=f"{op} ({sum(row['layers'] for row in chosen)})", zorder=3)
    axes.legend(loc="lower right", frameon=False, title="layers")
    axes.axhline(peak / 1e9, color=PEAK, linewidth=1.5)
    axes.annotate(f"multiply-adds, {peak / 1e9:.0f} {unit}", (right, peak / 1e9), (0, 4), textcoords="offset points",
                  ha="right", color=PEAK, fontsize=9)
    figure.draw_without_rendering()  # fixes the axes' position, and so the lines' angle
    for level, speed in reads.items():
        start, bend = max(left, bottom * 1e9 / speed), peak / speed  # past the bend the peak is lower
        axes.plot([start, bend], [start * speed / 1e9, peak / 1e9], color=GREY, linewidth=1)
        (x0, y0), (x1, y1) = axes.transData.transform([(start, start * speed / 1e9), (bend, peak / 1e9)])
        axes.text(1.1 * start, 1.1 * start * speed / 1e9, f"{level}, {speed / 1e9:.0f} GB/s", color=GREY, fontsize=9,
                  rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)), rotation_mode="anchor", va="bottom")
    _write(figure, path)
