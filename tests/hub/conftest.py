"""The server that weights are fetched from, and the directory that they are stored in."""
import os
import ssl
import threading

import pytest
from hub_server import CONTENT, LITE0, PEM, Handler, Server, stand_in, whole

import weights_convert
from npefficient.hub import download
from npefficient.network.variants import VARIANTS


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


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The directory of the weights, empty; CONTENT is the official file, and converting it only copies it."""
    def convert(source, target, *, force):
        assert force
        target.write_bytes(b"converted " + source.read_bytes())

    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(VARIANTS, LITE0, stand_in(CONTENT))
    monkeypatch.setattr(weights_convert, "convert", convert)
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))
    return tmp_path / "cache" / "weights"
