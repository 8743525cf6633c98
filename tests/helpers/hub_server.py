"""A server on the loopback whose answers are functions of its handler, one per request, the last one repeated."""
import hashlib
import http.server
from dataclasses import replace
from pathlib import Path

from npefficient.network.variants import VARIANTS

PEM = Path(__file__).parents[1] / "data" / "loopback.pem"
CONTENT = bytes(range(256)) * 4000  # stands for a checkpoint: 1,024,000 bytes
OTHER = CONTENT[::-1]
LITE0 = "tf_efficientnet_lite0"


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


def stand_in(content, name=LITE0):
    """The variant as if `content` were its official file, and no package held it."""
    return replace(VARIANTS[name], file=f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth", file_size=len(content),
                   package=None)


def left(weights):
    """The names in the directory, except the lock's."""
    return sorted(path.name for path in weights.iterdir() if not path.name.endswith(".lock"))


FILE = stand_in(CONTENT).file
H5 = FILE.replace(".pth", ".h5")
