"""Pictures of a ladder, and of layers under the machine's roofline; both say where and when they were measured."""
import math
from pathlib import Path

from ..common.paths import replacing
from ..common.picture_files import check_picture, drawing
from ..common.text import plain
from .peak import disturbed

COLOURS = {"stem": "#8c564b", "depthwise": "#d95f02", "pointwise": "#1b6ca8", "pool": "#7f7f7f",
           "classifier": "#2a9d5c", "quantize": "#c9a227"}
GREY, PEAK, BLAS = "#666666", "#b2182b", "#2a9d5c"
STYLES = (":", "-.", "--", "-", (0, (9, 1)))  # of the slopes, one for each level of memory


def _figure(width: float, height: float, title: str, about: str):
    """An empty figure, its size in inches, and its axes; no window."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.text(0.995, 0.01, about, ha="right", va="bottom", fontsize=7, color=GREY)
    figure.get_layout_engine().set(rect=(0, 0.05, 1, 0.95))
    return figure, axes


@drawing("plot")
def write(figure, path: Path) -> None:
    """Write a picture in the format that its name ends in."""
    with replacing(path, force=True) as part:
        figure.savefig(part, format=check_picture(path), dpi=200, bbox_inches="tight")
    print(f"wrote {plain(path)}: the picture")


@drawing("plot")
def ladder(rows: list[dict], title: str, peak: float, unit: str, about: str, blas: dict | None = None):
    """A figure with a bar for each rung of `bench/ladder.py` on a log scale, marks where the speed was predicted, and
    lines for the peak and for NumPy's product of matrices.

    peak: operations per second; unit: "FLOP" or "OP", what an operation is called; about: the machine and the time;
    blas: {"library": its name, "product": operations per second}, or None
    """
    speed = f"G{unit}/s"
    rows = [row for row in rows if speed in row]  # without those that this processor lacks something for
    figure, axes = _figure(9, 0.38 * len(rows) + 2.1, title, about)
    speeds, marks = [row[speed] for row in rows], [row.get("predicted") for row in rows]
    axes.barh([row["rung"] for row in rows], speeds, color=COLOURS["pointwise"], height=0.7, label="measured")
    if any(marks):
        places = [i for i, mark in enumerate(marks) if mark]
        axes.plot([marks[i] for i in places], places, "|", color="black", markersize=12, markeredgewidth=2, zorder=4,
                  label="predicted from the limits of the core")
    axes.axvline(peak / 1e9, color=PEAK, linewidth=1.5, label=f"peak, {peak / 1e9:.0f}")
    if blas:
        axes.axvline(blas["product"] / 1e9, color=BLAS, linewidth=1.5, linestyle="--",
                     label=f"NumPy, x @ weight ({blas['library'].split()[0]}, one thread), {blas['product'] / 1e9:.0f}")
    lowest = 10.0 ** math.floor(math.log10(min([*speeds, *filter(None, marks)])) - 0.1)
    axes.set(xscale="log", xlim=(lowest, peak / 1e9 * 1.5), xlabel=f"{speed} of one core, log scale")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params("y", length=0)
    axes.invert_yaxis()
    beside = axes.get_yaxis_transform()  # x as a share of the axes' width, y a rung
    columns = [(50, speed), (100, "x before")] + [(155, "limit")] * any(marks)  # points beside the axes
    for i, row in enumerate([{key: key for _, key in columns}, *rows], start=-1):
        for right, key in columns:
            value = row.get(key)
            text = value if isinstance(value, str) else "" if value is None else f"{value:.3g}"
            axes.annotate(text, (1, i if i >= 0 else -0.8), (right, 0), xycoords=beside, textcoords="offset points",
                          ha="right", va="center", fontsize=9, annotation_clip=False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


@drawing("plot")
def roofline(rows: list[dict], title: str, unit: str, peak: float, reads: dict[str, float], about: str):
    """A figure with a point for each layer of `bench/kernels.py`: its speed over operations per byte, below the
    machine's roofline.

    rows: of the table, with a unit of 1e9 operations per second, and "operations per byte"; peak: operations per
    second; reads: bytes per second from each level of memory; about: the machine and the time

    A level that came out slower than one farther from the core was disturbed: it is named, not drawn.
    """
    from matplotlib.ticker import LogLocator

    figure, axes = _figure(9, 5.5, title, about)
    intensities = [row["operations per byte"] for row in rows]
    left, right = min(intensities) / 2, max(intensities) * 3
    bottom, top = min(row[unit] for row in rows) / 3, peak / 1e9 * 1.5
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top),
             xlabel="operations per byte that has to be read or written at least, log scale",
             ylabel=f"{unit} of one core, log scale")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.axhline(peak / 1e9, color=PEAK, linewidth=1.5, label=f"multiply-adds, {peak / 1e9:.0f} {unit}")
    wrong = disturbed(reads)
    for (level, speed), style in zip(reads.items(), STYLES):
        if level in wrong:
            axes.plot([], [], " ", label=f"{level}: {speed / 1e9:.0f} GB/s, disturbed")
        else:
            axes.plot([left, peak / speed], [left * speed / 1e9, peak / 1e9], color=GREY, linewidth=1.2,
                      linestyle=style, label=f"reads from {level}, {speed / 1e9:.0f} GB/s")
    for op, colour in COLOURS.items():
        chosen = [row for row in rows if row["op"] == op]
        if chosen:
            axes.scatter([row["operations per byte"] for row in chosen], [row[unit] for row in chosen], color=colour,
                         s=36, alpha=0.8, label=f"{op} ({sum(row['layers'] for row in chosen)})", zorder=3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9, title="limits, and layers")
    return figure
