"""GET gives a form, POST the words of what was sent in it."""

import html
import os
import signal
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from words import count

TITLE = html.escape(os.environ.get("TITLE", "Word count"))
FORM = "<form method=post><textarea name=text></textarea><button>Count</button></form>"
PAGE = "<!doctype html><title>{0}</title><h1>{0}</h1>" + FORM + "{1}"
LARGEST = 1 << 20


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer("")

    def do_POST(self) -> None:
        length = min(int(self.headers.get("Content-Length") or 0), LARGEST)
        fields = urllib.parse.parse_qs(self.rfile.read(length).decode(errors="replace"))
        rows = "".join(f"<li>{html.escape(word)}: {n}" for word, n in count(" ".join(fields.get("text", ()))))
        self.answer(f"<ol>{rows}</ol>")

    def answer(self, result: str) -> None:
        body = PAGE.format(TITLE, result).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
