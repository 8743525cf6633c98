"""What can go wrong while weights are fetched: each failure has its message, and leaves no file."""
import errno
import hashlib
import io
import os
import re
import socket
import time
from pathlib import Path

import pytest
from hub_server import CONTENT, FILE, LITE0, OTHER, answer, drop_half_way, hang_up, left, status, unsized

import weights_convert
from npefficient.errors import ArgumentError, DownloadError, WeightsError
from npefficient.hub import download, making, pretrained

# (replies, requests made, text)
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
    assert str(caught.value).startswith("can't fetch"), "the directory is not to blame"
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
        monkeypatch.setattr(making, "open", refuse, raising=False)
    else:
        monkeypatch.setattr(making.tempfile, "TemporaryDirectory", refuse)
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
        monkeypatch.setattr(download.Progress, "advance", interrupt)
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
