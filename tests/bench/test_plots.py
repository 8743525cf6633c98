"""The pictures of ladders and rooflines: what they draw, mark and name."""
import pytest

from npefficient.bench import plots
from npefficient.errors import NpefficientError


def legend(figure):
    (found,) = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for text in found.get_texts()]


def test_the_bars_of_a_ladder_end_at_their_speed():
    rows = [{"rung": "a", "GFLOP/s": 0.02, "x before": None},
            {"rung": "b", "GFLOP/s": 50.0, "x before": 2500.0, "predicted": 60.0, "limit": "loads"}]
    figure = plots.ladder(rows, "title", 1e11, "FLOP", "here, today", {"library": "best 1.0", "product": 7e10})
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.02, 50.0]
    marks, peak, blas = axes.lines
    assert (list(marks.get_xdata()), list(marks.get_ydata())) == ([60.0], [1])
    assert list(peak.get_xdata()) == [100.0, 100.0] and list(blas.get_xdata()) == [70.0, 70.0]
    assert {"0.02", "50", "2.5e+03", "loads"} <= {text.get_text() for text in axes.texts}
    assert axes.get_xlim()[0] < 0.02 and "GFLOP/s" in axes.get_xlabel()
    assert {"peak, 100", "NumPy, x @ weight (best, one thread), 70"} <= set(legend(figure))
    assert "here, today" in [text.get_text() for text in figure.texts]


def test_a_ladder_without_predictions_has_no_marks():
    figure = plots.ladder([{"rung": "a", "GOP/s": 2.0, "x before": None}], "title", 1e11, "OP", "here")
    assert legend(figure) == ["peak, 100", "measured"] and len(figure.axes[0].lines) == 1


def test_a_roofline_names_a_level_that_was_disturbed_and_does_not_draw_it():
    rows = [{"op": "pointwise", "operations per byte": 8.0, "GFLOP/s": 50.0, "layers": 2}]
    figure = plots.roofline(rows, "title", "GFLOP/s", 1e11, {"L1": 7e10, "L2": 13e10, "memory": 2e10}, "here, today")
    assert legend(figure) == ["multiply-adds, 100 GFLOP/s", "L1: 70 GB/s, disturbed", "reads from L2, 130 GB/s",
                              "reads from memory, 20 GB/s", "pointwise (2)"]
    slopes = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_color() == plots.GREY]
    assert [round(line.get_ydata()[0] / line.get_xdata()[0]) for line in slopes] == [130, 20]
    assert "here, today" in [text.get_text() for text in figure.texts]


def test_an_interrupted_picture_leaves_the_old_one(monkeypatch, tmp_path):
    from matplotlib.figure import Figure

    (tmp_path / "a.png").write_bytes(b"old")

    def savefig(*arguments, **options):
        raise NpefficientError("interrupted")

    monkeypatch.setattr(Figure, "savefig", savefig)
    with pytest.raises(NpefficientError, match="interrupted"):
        plots.write(Figure(), tmp_path / "a.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
