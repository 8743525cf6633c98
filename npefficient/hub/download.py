"""Fetch one file over https, verify it, and report the progress."""
import contextlib
import hashlib
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from ..common.progress import Progress, write
from ..errors import DownloadError

PAUSES = (0.5, 1.0, 2.0)  # seconds before each further attempt
SILENCE = 30  # seconds without a byte after which an attempt has failed
LONGEST = 3600  # seconds for one attempt
CHUNK = 1 << 18  # bytes


def fetch(url: str, path: Path, size: int, sha256: str, progress: bool) -> None:
    """Download the file of `size` bytes at an https address to `path`; network failures are retried.

    sha256: of the file, or its first digits. `progress` reports on stderr. Raises DownloadError with just the reason.
    """
    import http.client

    if progress:
        write(sys.stderr, f"fetching {path.name}, {size / 1e6:.1f} MB\n")
    for pause in (*PAUSES, None):
        try:
            _download(url, path, size, progress)
            wrong = mismatch(path, size, sha256)
            if wrong:
                raise DownloadError(f"the downloaded file {wrong}")
            return
        except (OSError, ValueError, http.client.HTTPException) as problem:
            if pause is None or not _is_passing(problem):
                raise DownloadError(_reason(problem)) from problem
            if progress:
                write(sys.stderr, f"can't fetch {path.name} ({_reason(problem)}): trying again in {pause:g} s\n")
        time.sleep(pause)


def mismatch(path, right_size: int, sha256: str) -> str:
    """How the file differs from the official one, in words; "" if it does not. `sha256`: all or its first digits.
    """
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        if size != right_size:
            return f"has {size} bytes, the official file has {right_size}"
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as problem:
        return f"can't be read ({problem.strerror})"
    if not digest.hexdigest().startswith(sha256):
        return f"has a sha256 of {digest.hexdigest()}, the official file's begins with {sha256}"
    return ""


def _reason(problem) -> str:
    return str(problem).removeprefix("<urlopen error ").removesuffix(">").rstrip(".") or type(problem).__name__


def _download(url, path, size, progress):
    """One attempt: stream `url` into `path`, never more than `size` bytes; fewer are a broken connection."""
    deadline = time.monotonic() + LONGEST
    with _https(url) as response, open(path, "wb") as file:
        if response.length not in (None, size):
            raise DownloadError(f"the server offers {response.length} bytes, the official file has {size}")
        done = 0
        with Progress(size, "MB", scale=10**6) if progress else contextlib.nullcontext() as counter:
            while chunk := response.read1(CHUNK):
                done += len(chunk)
                if done > size:
                    raise DownloadError(f"the server sends more than the {size} bytes of the official file")
                if time.monotonic() > deadline:
                    raise DownloadError(f"only {done} of {size} bytes after {LONGEST} seconds")
                file.write(chunk)
                if counter:
                    counter.advance(len(chunk))
        if done < size:
            raise ConnectionError(f"the connection ended after {done} of {size} bytes")


def _https(url):
    """Open an address; certificates are checked, and a redirect to anything but https is refused."""
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
    """True for what a retry may cure: a broken connection, or a server that is down or busy."""
    import http.client
    import ssl
    from urllib.error import HTTPError, URLError

    if isinstance(problem, HTTPError):
        return problem.code >= 500 or problem.code in (408, 425, 429)
    if isinstance(problem, URLError):  # wraps failures before an answer, such as an unknown host
        problem = problem.reason
        if isinstance(problem, OSError):
            return not isinstance(problem, ssl.SSLCertVerificationError)
    broken = ConnectionError, TimeoutError, ssl.SSLError, http.client.BadStatusLine, http.client.IncompleteRead
    return isinstance(problem, broken)
