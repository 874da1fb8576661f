"""HTTP servers for tests: one in the test's own process, one that containers of `image: host` run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body. With another Content-Length than the body has, the connection breaks after it."""
Request = tuple[str, str, dict[str, str]]
"""Method, path, headers in small letters; the body is under `body`."""


class Serving:
    """On loopback, in threads. Answers as `answer` says, and remembers the requests."""

    def __init__(self, answer: Callable[[str, str, dict[str, str]], Answer]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        serving = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                serving._serve(self)

            do_POST = do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        headers = {key.lower(): value for key, value in request.headers.items()}
        headers["body"] = request.rfile.read(int(headers.get("content-length") or 0)).decode()
        self.requests.append((request.command, request.path, headers))
        status, extra, data = self.answer(request.command, request.path, headers)
        said = {"Content-Length": str(len(data)), **extra}
        request.send_response(status)
        for key, value in said.items():
            request.send_header(key, value)
        request.end_headers()
        request.close_connection = said["Content-Length"] != str(len(data))
        if request.command != "HEAD" and status != 304:
            try:
                request.wfile.write(data)
            except OSError:
                pass  # the client had enough


SERVER = """
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(1.5)
        body = os.environ.get("SAYS", "well").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
time.sleep(float(os.environ.get("LATE", "0")))
Server(("", 80), Handler).serve_forever()
"""
"""A program for port 80: it says $SAYS to everybody, /slow takes its time; it begins $LATE seconds late."""
