"""The benchmark of whole models in 8 bits."""
import json


def test_model_measures_both_precisions(bench, tmp_path):
    """Those of int8 are equal to the plain integer network's."""
    code, _, err = bench("model", "--size", "33", "--precision", "float32,int8", "--seconds", "0.01", "--json",
                         tmp_path / "m.json")
    assert code == 0 and err == ""
    rows = json.loads((tmp_path / "m.json").read_text())["tables"]["start"]
    assert [(row["precision"], row["differs"] > 0) for row in rows] == [("float32", True), ("int8", False)]
