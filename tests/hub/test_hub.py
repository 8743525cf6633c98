"""Weights by name, from a server on the loopback: fetched, converted and kept."""
import functools
import hashlib
import io
import subprocess
import sys

import pytest
from hub_server import CONTENT, FILE, H5, LITE0, answer, drop_half_way, hang_up, left, stand_in, status, unsized, whole
from live import calibrated, needs_timm, torch

from npefficient import hub
from npefficient.errors import ArgumentError
from npefficient.hub import download, places, pretrained
from npefficient.network.variants import VARIANTS


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
        assert places.address(variant) == variant.url


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
