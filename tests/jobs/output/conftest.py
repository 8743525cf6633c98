"""Where a test writes its rows."""
import pytest


@pytest.fixture
def path(tmp_path, suffix):
    return tmp_path / f"out{suffix}"
