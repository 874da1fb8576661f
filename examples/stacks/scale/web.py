"""Answers with the name of its container and its version."""

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = f"{socket.gethostname()} version {os.environ['VERSION']}\n".encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
