"""The version of an engine and its size on disk, from its distribution's metadata."""
import importlib.metadata as metadata
import re
from pathlib import Path

from ...common.version import __version__
from ...errors import NpefficientError

PACKAGE = Path(__file__).parents[2]
OURS = ("numpy", "numba", "pillow", "h5py")  # setup.cfg's install_requires, for a checkout that is not installed


def version(distribution: str) -> str:
    """The version of an installed distribution; ours also from a checkout."""
    if distribution == "npefficient":
        return __version__
    return metadata.version(distribution)


def installed_size(distribution: str) -> int:
    """Bytes of a distribution's files and of all its dependencies, each counted once."""
    if distribution == "npefficient":
        own = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return sum(path.stat().st_size for path in own) + sum(map(size_of_files, needed(OURS)))
    return sum(map(size_of_files, needed([distribution])))


def needed(names) -> set[str]:
    """The names and all their installed dependencies, without extras."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.sub("[-_.]+", "-", waiting.pop()).lower()
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another system or Python
            continue
        if name not in found:
            found.add(name)
            waiting += [re.match(r"[\w.-]+", line)[0] for line in requirements if "extra ==" not in line]
    return found


def size_of_files(distribution: str) -> int:
    """Bytes of the files that a distribution lists."""
    files = metadata.files(distribution)
    if files is None:
        raise NpefficientError(f"distribution {distribution!r} lists no files: its size is unknown")
    paths = [Path(file.locate()) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file())
