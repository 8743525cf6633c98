"""Source files have at most 300 lines, tests included: a longer one has more than one subject."""
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 300


@pytest.mark.parametrize("folder", ["npefficient", "weights_convert", "tests", "notebooks"])
def test_no_source_file_is_longer_than_300_lines(folder):
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
               for path in (ROOT / folder).rglob("*.py")}
    assert lengths and {name: length for name, length in lengths.items() if length > MOST} == {}
