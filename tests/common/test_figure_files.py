"""Files with figures: what they contain, and that an existing one is only replaced on demand."""
import csv
import json

import pytest

from npefficient.common.figure_files import write_csv, write_json
from npefficient.errors import ArgumentError


def test_write_json(tmp_path):
    figures = {"photos": 3, "label": "café", "none": None, "list": [1.5, True]}
    write_json(tmp_path / "f.json", figures)
    text = (tmp_path / "f.json").read_text(encoding="utf-8")
    assert json.loads(text) == figures and "café" in text and text.endswith("}\n")


def test_write_csv(tmp_path):
    rows = [(0, "tench, Tinca tinca", None), (1, 'a "quoted" one', 2.5)]
    write_csv(tmp_path / "f.csv", ("class", "label", "top5"), rows)
    with open(tmp_path / "f.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["class", "label", "top5"], ["0", "tench, Tinca tinca", ""],
                                          ["1", 'a "quoted" one', "2.5"]]
    assert (tmp_path / "f.csv").read_bytes().count(b"\n") == 3 and b"\r" not in (tmp_path / "f.csv").read_bytes()


@pytest.mark.parametrize("write", [lambda path, **how: write_json(path, {}, **how),
                                   lambda path, **how: write_csv(path, "ab", [], **how)], ids=["json", "csv"])
def test_an_old_file_stays(tmp_path, write):
    (tmp_path / "f").write_text("old")
    with pytest.raises(ArgumentError, match="f' exists already"):
        write(tmp_path / "f")
    assert (tmp_path / "f").read_text() == "old"
    write(tmp_path / "f", force=True)
    assert (tmp_path / "f").read_text() != "old" and len(list(tmp_path.iterdir())) == 1
