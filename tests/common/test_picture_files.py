"""Pictures do not depend on the user's settings of matplotlib; what makes it fail is said."""
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from npefficient.bench import plots
from npefficient.jobs.finetune.confusion_picture import draw_confusion
from npefficient.training.run_files import Epoch
from npefficient.training.run_pictures import draw_curves

# LaTeX need not be there.
SETTINGS = {"text.usetex": True, "font.family": ["none"], "savefig.dpi": 99999, "axes.facecolor": "black",
            "savefig.format": "svg", "savefig.bbox": "tight", "figure.autolayout": True}


def curves(path):
    draw_curves([Epoch(1, 0.1, 2.0, 2.2, 0.5, 30, 9.0)], path)


def confusion(path):
    draw_confusion(np.eye(2, dtype=np.int64), "ab", path)


def ladder(path):
    plots.write(plots.ladder([{"rung": "a", "GOP/s": 2.0, "x before": None}], "title", 1e11, "OP", "here"), path)


def roofline(path):
    rows = [{"op": "pointwise", "operations per byte": 8.0, "GFLOP/s": 50.0, "layers": 2}]
    plots.write(plots.roofline(rows, "title", "GFLOP/s", 1e11, {"L1": 7e10}, "here"), path)


@pytest.mark.parametrize("draw", [curves, confusion, ladder, roofline])
def test_a_picture_is_the_same_with_any_settings(tmp_path, draw):
    draw(tmp_path / "usual.png")
    with matplotlib.rc_context(SETTINGS):
        draw(tmp_path / "set.png")
        assert {name: matplotlib.rcParams[name] for name in SETTINGS} == SETTINGS
    assert (tmp_path / "usual.png").read_bytes() == (tmp_path / "set.png").read_bytes()


def test_the_settings_are_those_of_the_user_again_after_a_failure(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with matplotlib.rc_context(SETTINGS):
        with pytest.raises(OSError, match="disk full"):
            curves(tmp_path / "c.png")
        assert matplotlib.rcParams["text.usetex"]


@pytest.mark.parametrize("setting, why", [
    ("backend", "ValueError: Key backend: 'nonsense' is not a valid value"), ("style", "can't decode byte 0xff")])
def test_settings_with_which_matplotlib_is_not_imported(tmp_path, setting, why):
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path)}
    if setting == "backend":
        environment["MPLBACKEND"] = "nonsense"
    else:
        (tmp_path / "stylelib").mkdir()
        (tmp_path / "stylelib" / "a.mplstyle").write_bytes(b"\xff")
    code = "from npefficient.common.picture_files import check_matplotlib; check_matplotlib('plot')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and why in done.stderr
    said = done.stderr.splitlines()[-1]
    assert "ArgumentError: drawing a picture needs matplotlib, which can't be imported (" in said
    assert said.endswith("correct MPLBACKEND, matplotlibrc or the style that it refuses")
