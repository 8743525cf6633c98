"""The programs in notebooks/ as modules."""
import importlib
import sys
from pathlib import Path
from unittest import mock

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def program(name):
    """notebooks/<name>.py as a module; it can import its neighbours."""
    with mock.patch.object(sys, "path", [str(NOTEBOOKS), *sys.path]):
        return importlib.import_module(name)
