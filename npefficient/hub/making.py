"""Make the weight file of a variant: verify its official checkpoint, fetched if need be, and convert it."""
import contextlib
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..common.extras import install
from ..common.file_lock import lock, unlock
from ..common.paths import ABANDONED
from ..common.private_directory import private_directory
from ..common.progress import write
from ..errors import ArgumentError, DownloadError, WeightsError
from ..network.variants import Package, Variant
from . import packaged
from .download import fetch, mismatch
from .places import address, converted, kept, unwritable, weights_directory

LOCK_WAIT = 600  # seconds to wait for another process before doing the work twice


def make(variant: Variant, progress: bool) -> Path:
    """Return the path of the weight file, or of a package's checkpoint where nothing can be kept, with a warning."""
    try:
        return _make_once(variant, progress)
    except (ArgumentError, DownloadError) as problem:
        package = variant.package
        if package is None or (found := packaged.find(package)) is None:
            raise
        _check_package(package, found)
        warnings.warn(f"{problem}; until then {str(found)!r} is read each time", RuntimeWarning, stacklevel=3)
        return found


def _make_once(variant: Variant, progress: bool) -> Path:
    """`_make`, unless another process is doing it already."""
    directory = weights_directory()
    with unwritable(directory):
        private_directory(directory)
    with _one_at_a_time(directory / f".{variant.file}.lock", progress), unwritable(directory):
        return kept(variant.name) or _make(variant, directory, progress)


def _make(variant: Variant, directory: Path, progress: bool) -> Path:
    """Convert the file put there by hand, else that of a package, else a fetched one; returns the weight file.

    Each is verified by its size and digest first. The bytes that are parsed are verified once more, by the digest that
    the file's name stands for (`weights_convert.source_file`): replacing the file in between gains nothing.
    """
    from weights_convert import convert

    placed, package = directory / variant.file, variant.package
    target = converted(directory, variant.file)
    if os.path.isfile(placed):
        wrong = mismatch(placed, variant.file_size, variant.sha256_prefix)
        if wrong:
            raise WeightsError(f"checkpoint {str(placed)!r} {wrong}: fetch {variant.url} again, "
                               "or remove the file to let npefficient fetch it")
        convert(placed, target, force=True)
    elif package and (found := packaged.find(package)):
        _check_package(package, found)
        target = converted(directory, package.file)
        convert(found, target, force=True)
    else:
        with _scratch(directory) as scratch:
            checkpoint, url = scratch / variant.file, address(variant)
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


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A temporary directory beside the target; those that killed processes left are removed after a day."""
    for left in directory.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    with unwritable(directory):
        made = tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory)
    with made as scratch:
        yield Path(scratch)


@contextlib.contextmanager
def _one_at_a_time(path: Path, progress: bool) -> Iterator[None]:
    """Hold a lock on `path`, which the system releases with its process: a file left behind blocks nobody.

    Where there are no locks (some network file systems), or another process holds it for LOCK_WAIT seconds, go on
    without.
    """
    with unwritable(path.parent):
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
