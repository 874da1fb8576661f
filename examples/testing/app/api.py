"""`GET /NAME` counts. Without the store the answer is 503, and soon: nobody waits for what is not there."""

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def count(name: str) -> str:
    with socket.create_connection(("store", 7000), timeout=1) as store:
        store.sendall(f"{name}\n".encode())
        return store.makefile().readline()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            status, text = 200, "ok\n" if self.path == "/health" else count(self.path)
        except OSError as error:
            print(f"store: {error}")
            status, text = 503, "the store does not answer\n"
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


ThreadingHTTPServer(("", 80), Handler).serve_forever()
