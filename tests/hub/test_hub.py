"""Weights by name, from a server on the loopback that behaves in every way a server can."""
import errno
import functools
import hashlib
import http.server
import io
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from live import calibrated, needs_timm, torch

import weights_convert
from npefficient import hub
from npefficient.errors import ArgumentError, DownloadError, WeightsError
from npefficient.hub import download, pretrained
from npefficient.network.variants import VARIANTS

PEM = Path(__file__).parents[1] / "data" / "loopback.pem"
CONTENT = bytes(range(256)) * 4000  # stands for a checkpoint: 1,024,000 bytes
OTHER = CONTENT[::-1]
LITE0 = "tf_efficientnet_lite0"


# A server whose answers are functions of its handler, one per request, the last one repeated.


def answer(handler, code=200, body=b"", length=None, **headers):
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler):
    answer(handler, body=CONTENT)


def drop_half_way(handler):
    answer(handler, body=CONTENT[:500_000], length=len(CONTENT))


def unsized(body):
    """HTTP/1.0 without a length: the end of the connection is the end of the file."""
    def reply(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)
    return reply


def status(code, **headers):
    return lambda handler: answer(handler, code, b"<html>no weights here</html>", **headers)


def hang_up(handler):
    handler.connection.close()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        replies = self.server.replies
        self.server.paths.append(self.path)
        try:
            (replies.pop(0) if len(replies) > 1 else replies[0])(self)
        except OSError:
            pass  # the client has seen enough
        self.close_connection = True

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def server(monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.socket = context.wrap_socket(running.socket, server_side=True, do_handshake_on_connect=False)
        running.replies, running.paths = [whole], []
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.base = f"https://localhost:{running.server_port}"
        monkeypatch.setenv("NPEFFICIENT_MIRROR", f"{running.base}/mirror/")
        monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        yield running
        running.shutdown()


def stand_in(content, name=LITE0):
    """The variant as if `content` were its official file, and no package held it."""
    return replace(VARIANTS[name], file=f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth", file_size=len(content),
                   package=None)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The directory of the weights, empty; CONTENT is the official file and converting it is a copy."""
    def convert(source, target, *, force):
        assert force
        target.write_bytes(b"converted " + source.read_bytes())

    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(VARIANTS, LITE0, stand_in(CONTENT))
    monkeypatch.setattr(weights_convert, "convert", convert)
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))
    return tmp_path / "cache" / "weights"


def left(weights):
    """What lies in the directory, but for the lock."""
    return sorted(path.name for path in weights.iterdir() if not path.name.endswith(".lock"))


FILE = stand_in(CONTENT).file
H5 = FILE.replace(".pth", ".h5")


# What goes well


@pytest.mark.parametrize("name", ["lite0", LITE0, f"{LITE0}.in1k"])
def test_pretrained_fetches_converts_and_keeps(name, server, weights):
    got = pretrained(name)
    assert got == weights / H5
    assert got.read_bytes() == b"converted " + CONTENT
    assert server.paths == [f"/mirror/{FILE}"]
    assert left(weights) == [H5], "neither the checkpoint nor its directory stays"
    assert pretrained(name) == got
    assert len(server.paths) == 1, "the second call needs no network"


def test_pretrained_names_and_addresses_are_the_official_ones(tmp_path, monkeypatch):
    monkeypatch.delenv("NPEFFICIENT_MIRROR", raising=False)
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    for variant in VARIANTS.values():
        expected = tmp_path / "weights" / f"{variant.name}-{variant.sha256_prefix}.h5"
        expected.touch()
        assert pretrained(variant.name) == expected
        assert hub._address(variant) == variant.url


def test_kept_neither_fetches_nor_converts(weights, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_MIRROR", "https://localhost:1")  # nobody listens
    assert hub.kept("lite0") is None and not weights.exists()
    weights.mkdir(parents=True)
    (weights / FILE).write_bytes(CONTENT)
    assert hub.kept("lite0") is None
    got = pretrained("lite0")
    assert hub.kept(LITE0) == got == weights / H5
    with pytest.raises(ArgumentError, match="'lite7'"):
        hub.kept("lite7")


def test_pretrained_follows_a_redirect_to_https(server, weights):
    server.replies = [status(302, Location=f"{server.base}/elsewhere"), whole]
    pretrained("lite0")
    assert server.paths == [f"/mirror/{FILE}", "/elsewhere"]
    assert left(weights) == [H5]


def test_pretrained_without_content_length(server, weights):
    server.replies = [unsized(CONTENT)]
    assert pretrained("lite0").read_bytes() == b"converted " + CONTENT


def test_pretrained_takes_the_file_put_there_by_hand(weights, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_MIRROR", "https://localhost:1")  # nobody listens
    weights.mkdir(parents=True)
    (weights / FILE).write_bytes(CONTENT)
    assert pretrained("lite0").read_bytes() == b"converted " + CONTENT
    assert left(weights) == [H5, FILE], "what was put there by hand is not ours to remove"


@pytest.mark.parametrize("trouble", [
    pytest.param(status(500), id="500"),
    pytest.param(status(503), id="503"),
    pytest.param(status(429), id="429"),
    pytest.param(hang_up, id="hangs_up"),
    pytest.param(drop_half_way, id="dropped_half_way"),
    pytest.param(unsized(CONTENT[:-1]), id="one_byte_short"),
    pytest.param(unsized(b""), id="nothing"),
])
def test_pretrained_tries_again(trouble, server, weights):
    server.replies = [trouble, trouble, whole]
    assert pretrained("lite0").read_bytes() == b"converted " + CONTENT
    assert len(server.paths) == 3
    assert left(weights) == [H5]


def test_pretrained_waits_between_attempts(server, weights, monkeypatch):
    pauses = []
    monkeypatch.setattr(download, "PAUSES", (1, 2, 4))
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.replies = [status(500), status(500), whole]
    pretrained("lite0")
    assert pauses == [1, 2]


@pytest.mark.parametrize("progress, expected", [(True, 2), (False, 0)])
def test_pretrained_says_what_it_waits_for(server, weights, monkeypatch, capsys, progress, expected):
    monkeypatch.setattr(download, "PAUSES", (0, 0.001, 0))
    server.replies = [status(500), status(503), whole]
    pretrained("lite0", progress=progress)
    said = [line for line in capsys.readouterr().err.splitlines() if "can't fetch" in line]
    assert said == [f"can't fetch {FILE} (HTTP Error 500: Internal Server Error): trying again in 0 s",
                    f"can't fetch {FILE} (HTTP Error 503: Service Unavailable): trying again in 0.001 s"][:expected]


# What goes wrong: (replies, requests made, text)
FAILURES = {
    "404": (status(404), 1, "HTTP Error 404"),
    "403": (status(403), 1, "HTTP Error 403"),
    "204": (status(204), 1, "the server answers 204"),
    "always_500": (status(500), 4, "HTTP Error 500"),
    "always_dropped": (drop_half_way, 4, "ended after 500000 of 1024000 bytes"),
    "always_hangs_up": (hang_up, 4, "closed|reset|EOF|violation"),
    "wrong_hash": (lambda h: answer(h, body=OTHER), 1, f"sha256 of {hashlib.sha256(OTHER).hexdigest()}"),
    "one_bit": (lambda h: answer(h, body=b"\1" + CONTENT[1:]), 1, "the official file's begins with"),
    "offers_less": (lambda h: answer(h, body=CONTENT[:-1]), 1, "offers 1023999 bytes, the official file has 1024000"),
    "offers_more": (lambda h: answer(h, body=CONTENT + b"x"), 1, "offers 1024001 bytes, the official file has 1024000"),
    "sends_more": (unsized(CONTENT + b"x"), 1, "more than the 1024000 bytes"),
    "html_page": (lambda h: answer(h, body=b"<html>log in</html>"), 1, "offers 19 bytes"),
    "redirect_to_http": (status(302, Location="http://example.invalid/f.pth"), 1,
                         "redirects to 'http://example.invalid/f.pth', and only https"),
    "redirect_to_http_here": (status(301, Location="http://127.0.0.1/f"), 1, "redirects to 'http://127.0.0.1/f'"),
    "redirect_to_file": (status(302, Location="file:///etc/passwd"), 1, "url 'file:///etc/passwd' is not allowed"),
    "redirect_to_ftp": (status(307, Location="ftp://example.invalid/f"), 1, "redirects to 'ftp://example.invalid/f'"),
    "redirect_for_ever": (status(302, Location="/again"), 5, "infinite loop"),
    "nonsense": (lambda h: h.wfile.write(b"SSH-2.0-OpenSSH\r\n"), 4, "SSH-2.0|BadStatusLine"),
}


@pytest.mark.parametrize("reply, requests, text", FAILURES.values(), ids=FAILURES)
def test_pretrained_fails_and_leaves_nothing(reply, requests, text, server, weights):
    server.replies = [reply]
    with pytest.raises(DownloadError, match=f"'{LITE0}' from '{server.base}/mirror/{FILE}': .*({text})"):
        pretrained("lite0")
    assert len(server.paths) == requests
    assert left(weights) == []


def test_pretrained_offline_says_address_place_and_command(weights, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_MIRROR", "https://localhost:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    with pytest.raises(DownloadError, match="'https://localhost:1/tf_efficientnet_lite0-.*pth': .*refused") as caught:
        pretrained("lite0")
    assert f"put it at '{weights / FILE}'" in str(caught.value)
    assert f"'npefficient convert {FILE} lite0.h5'" in str(caught.value)
    assert "imagenet" not in str(caught.value), "no package holds these"
    assert left(weights) == []


def test_pretrained_unknown_certificate_is_not_tried_again(server, weights, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setenv("SSL_CERT_DIR", os.devnull)
    monkeypatch.setattr(download, "PAUSES", ("never slept",))
    with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
        pretrained("lite0")
    assert server.paths == [] and left(weights) == []


def test_pretrained_certificate_of_another_host(server, weights, monkeypatch):
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest: look_up("127.0.0.1", *rest))
    monkeypatch.setenv("NPEFFICIENT_MIRROR", f"https://elsewhere.example:{server.server_port}")
    with pytest.raises(DownloadError, match="elsewhere.example:.*Hostname mismatch"):
        pretrained("lite0")
    assert server.paths == [] and left(weights) == []


def test_pretrained_silent_server(server, weights, monkeypatch):
    monkeypatch.setattr(download, "SILENCE", 0.2)
    server.replies = [lambda handler: time.sleep(0.6)]
    with pytest.raises(DownloadError, match="timed out"):
        pretrained("lite0")
    assert left(weights) == []


def test_pretrained_dripping_server(server, weights, monkeypatch):
    monkeypatch.setattr(download, "LONGEST", -1)
    with pytest.raises(DownloadError, match="of 1024000 bytes after -1 seconds"):
        pretrained("lite0")
    assert left(weights) == []


@pytest.mark.parametrize("mirror", [
    "http://example.invalid", "http://localhost:8000", "ftp://example.invalid", "file:///tmp", "/tmp", "host.invalid",
    "https://", "https://[::1", "https://a b", "https://a\nb", "https://user:secret@host", "https://host/?q=1",
    "https://ä.example",
])
def test_pretrained_mirror_refused(mirror, weights, monkeypatch):
    monkeypatch.setenv("NPEFFICIENT_MIRROR", mirror)
    with pytest.raises(ArgumentError, match=re.escape(f"NPEFFICIENT_MIRROR={mirror!r}: it must be the https://")):
        pretrained("lite0")
    assert left(weights) == []


def test_pretrained_unknown_name():
    with pytest.raises(ArgumentError, match="unknown model 'lite7'"):
        pretrained("lite7")


@pytest.mark.parametrize("content, text", [
    pytest.param(CONTENT[:-1], "has 1023999 bytes, the official file has 1024000", id="cut"),
    pytest.param(b"", "has 0 bytes", id="empty"),
    pytest.param(OTHER, f"sha256 of {hashlib.sha256(OTHER).hexdigest()}", id="other"),
])
def test_pretrained_wrong_file_put_there_by_hand(content, text, server, weights):
    weights.mkdir(parents=True)
    (weights / FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=f"checkpoint '{weights / FILE}' .*{text}.*remove the file"):
        pretrained("lite0")
    assert left(weights) == [FILE] and server.paths == []


def test_pretrained_cache_is_a_file(weights, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=rf"'{tmp_path}/file/weights' .*can't be used .*NPEFFICIENT_CACHE"):
        pretrained("lite0")


@pytest.mark.parametrize("where", ["mkdir", "open", "scratch"])
def test_pretrained_unwritable_directory(where, weights, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(weights))

    if where == "mkdir":  # chmod does not stop root
        monkeypatch.setattr(Path, "mkdir", refuse)
    elif where == "open":
        monkeypatch.setattr(hub, "open", refuse, raising=False)
    else:
        monkeypatch.setattr(hub.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(DownloadError, match=rf"'{weights}' .*can't be used .*Permission denied.*NPEFFICIENT_CACHE"):
        pretrained("lite0")


def test_pretrained_full_disk_is_not_tried_again(server, weights, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "open", lambda path, mode: (Full if mode == "wb" else open)(path, mode),
                        raising=False)
    with pytest.raises(DownloadError, match="No space left on device"):
        pretrained("lite0")
    assert len(server.paths) == 1 and left(weights) == []


@pytest.mark.parametrize("when", ["downloading", "converting"])
def test_pretrained_interrupted_leaves_nothing(when, server, weights, monkeypatch):
    def interrupt(*args, **kwargs):
        assert list(weights.glob(f".fetch-*/{FILE}")), "the download had begun"
        raise KeyboardInterrupt

    if when == "downloading":
        monkeypatch.setattr(download._Progress, "__call__", interrupt)
    else:
        monkeypatch.setattr(weights_convert, "convert", interrupt)
    with pytest.raises(KeyboardInterrupt, match="^$"):
        pretrained("lite0")
    assert left(weights) == []


def test_pretrained_refused_by_the_converter_leaves_nothing(server, weights, monkeypatch):
    def refuse(source, target, *, force):
        raise WeightsError(f"checkpoint {source.name!r} is no network")

    monkeypatch.setattr(weights_convert, "convert", refuse)
    with pytest.raises(WeightsError, match=f"'{FILE}' is no network"):
        pretrained("lite0")
    assert left(weights) == []


# Others at the same time

CHILD = """
import time, weights_convert
from npefficient.hub import download; from npefficient import hub
def convert(source, target, *, force):
    time.sleep(0.3)
    part = target.with_suffix(f".{time.perf_counter_ns()}")
    part.write_bytes(b"converted " + source.read_bytes())
    part.replace(target)
weights_convert.convert = convert
hub.VARIANTS[LITE0] = hub.Variant(**VARIANT)
print(hub.pretrained("lite0", progress=False))
"""


@pytest.mark.parametrize("locks, requests", [(True, [1]), (False, [1, 2])], ids=["with_locks", "without_locks"])
def test_pretrained_two_processes_at_once(locks, requests, server, weights):
    values = {field: getattr(VARIANTS[LITE0], field) for field in VARIANTS[LITE0].__dataclass_fields__}
    values["preprocessing"] = None
    code = f"LITE0, VARIANT = {LITE0!r}, {values!r}\n" + CHILD
    if not locks:
        code = "import sys; sys.modules['fcntl'] = None\n" + code
    pipe = subprocess.PIPE
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) for _ in "ab"]
    for child in children:
        out, err = child.communicate(timeout=60)
        assert (child.returncode, out.strip()) == (0, str(weights / H5)), err
    assert (weights / H5).read_bytes() == b"converted " + CONTENT
    assert left(weights) == [H5] and len(server.paths) in requests


def test_pretrained_stale_lock_file_blocks_nobody(server, weights):
    weights.mkdir(parents=True)
    (weights / f".{FILE}.lock").write_text("12345")
    assert pretrained("lite0").exists()


def test_pretrained_waits_for_the_holder_of_the_lock_but_not_for_good(server, weights, monkeypatch, capsys):
    fcntl = pytest.importorskip("fcntl")
    weights.mkdir(parents=True)
    monkeypatch.setattr(hub, "LOCK_WAIT", 0.3)
    with open(weights / f".{FILE}.lock", "ab") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        started = time.monotonic()
        assert pretrained("lite0").exists()
        assert 0.3 <= time.monotonic() - started < 10
    assert f"another process is fetching {FILE}: waiting" in capsys.readouterr().err


def test_pretrained_drops_the_lock_itself(server, weights, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    take, calls = fcntl.flock, []
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: (calls.append(operation), take(file, operation)))
    pretrained("lite0")
    assert calls == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN], "a forked child may keep the file open for ever"


def test_pretrained_removes_what_a_killed_process_left(server, weights):
    for name, age in [("old", 100_000), ("young", 100)]:
        (weights / f".fetch-{name}").mkdir(parents=True)
        (weights / f".fetch-{name}" / FILE).write_bytes(b"half")
        os.utime(weights / f".fetch-{name}", (time.time() - age,) * 2)
    pretrained("lite0")
    assert left(weights) == [".fetch-young", H5]


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_counts_in_one_line(server, weights, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    pretrained("lite0")
    got = sys.stderr.getvalue()
    assert got.endswith(f"\r{FILE}: 1.0 of 1.0 MB\n") and got.count("\n") == 1 and 2 <= got.count("\r") <= 101


def test_progress_on_a_terminal_ends_its_line_before_an_error(server, weights, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    server.replies = [unsized(CONTENT + b"x")]
    with pytest.raises(DownloadError, match="more than the 1024000 bytes"):
        pretrained("lite0")
    assert sys.stderr.getvalue().endswith("MB\n")


def test_progress_elsewhere_is_a_line_per_quarter(server, weights, capsys):
    pretrained("lite0")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"{FILE}: 1.0 of 1.0 MB" and 2 <= len(lines) <= 5


@pytest.mark.parametrize("stream", [None, "closed"])
def test_progress_nowhere(stream, server, weights, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", None if stream is None else closed)
    assert pretrained("lite0").exists()


def test_progress_unwanted(server, weights, capsys):
    pretrained("lite0", progress=False)
    assert capsys.readouterr().err == ""


# All of it


@functools.cache
def checkpoint():
    buffer = io.BytesIO()
    torch.save(calibrated("lite0").state_dict(), buffer)
    return buffer.getvalue()


@needs_timm
def test_pretrained_real_checkpoint_becomes_readable_weights(server, tmp_path, monkeypatch):
    from npefficient.weights.weight_file import read_weights

    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path))
    monkeypatch.setitem(VARIANTS, LITE0, stand_in(checkpoint()))
    server.replies = [lambda handler: answer(handler, body=checkpoint())]
    path = pretrained("lite0")
    expected, got = calibrated("lite0").state_dict(), read_weights(path)
    assert got.source.sha256 == hashlib.sha256(checkpoint()).hexdigest()
    assert got.source.name == VARIANTS[LITE0].file
    assert all((array == expected[name].numpy()).all() for name, array in got.parameters.items())
    assert len(got.parameters) > 200 and left(path.parent) == [path.name]


def test_import_is_light():
    heavy = {"PIL", "torch", "numba", "h5py", "ssl", "weights_convert"}
    code = f"import sys, npefficient.hub; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
