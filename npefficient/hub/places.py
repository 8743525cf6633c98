"""Where the official weights of a variant are, or would come from: nothing is fetched or converted here."""
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..common.paths import cache_directory
from ..common.private_directory import check_private, private_directory
from ..errors import ArgumentError, DownloadError
from ..network.variants import RELEASE, VARIANTS, Variant, canonical_name
from . import packaged


@dataclass(frozen=True)
class Origin:
    """Where the official weights of a variant would come from now."""

    kind: str  # "cache", "package" or "download"
    place: str  # a path, or an address


def kept(name: str) -> Path | None:
    """Return what `pretrained` would without fetching or converting anything; None where the file is not there yet.

    Raises DownloadError where other users could have put it there, or could replace it.
    """
    variant, directory = VARIANTS[canonical_name(name)], weights_directory()
    files = [variant.file] + ([variant.package.file] if variant.package else [])
    found = next((path for file in files if os.path.isfile(path := converted(directory, file))), None)
    if found:
        with unwritable(directory):
            check_private(private_directory(directory) / found.name)
    return found


def origin(name: str) -> Origin:
    """Say where `pretrained` takes the weights of a variant from; raises ArgumentError for an unknown name."""
    variant = VARIANTS[canonical_name(name)]
    with contextlib.suppress(ArgumentError, DownloadError):  # an unusable cache holds nothing; `pretrained` says why
        placed = weights_directory() / variant.file
        if found := kept(name) or (placed if os.path.isfile(placed) else None):
            return Origin("cache", str(found))
    if variant.package and (found := packaged.find(variant.package)):
        return Origin("package", str(found))
    return Origin("download", address(variant))


def weights_directory() -> Path:
    """Where official weights are kept; it may not exist yet."""
    return cache_directory() / "weights"


def converted(directory: Path, file: str) -> Path:
    """The weight file that an official checkpoint becomes."""
    return directory / (file.removesuffix(".pth") + ".h5")


def address(variant: Variant) -> str:
    """The address of the official file, at $NPEFFICIENT_MIRROR where that is set."""
    base = os.environ.get("NPEFFICIENT_MIRROR") or RELEASE
    try:
        parts = urlsplit(base)
        good = parts.scheme == "https" and parts.hostname and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        good = False
    if not good or any(c <= " " or c > "~" for c in base):
        raise ArgumentError(f"NPEFFICIENT_MIRROR={base!r}: it must be the https:// address of a directory, without "
                            "user, query or spaces (eight hex digits of a sha256 alone do not prevent forgery)")
    return f"{base.rstrip('/')}/{variant.file}"


@contextlib.contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Raise a DownloadError for an OSError of the directory, with its remedy."""
    try:
        yield
    except DownloadError:  # is an OSError, but not the directory's
        raise
    except OSError as problem:
        raise DownloadError(f"the directory {str(directory)!r} for weights can't be used ({problem}): set "
                            "NPEFFICIENT_CACHE to one that you can write, and nobody else") from problem
