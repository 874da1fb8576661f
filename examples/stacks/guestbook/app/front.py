"""The page people see. Renders the entries of the API and posts new ones to it."""

import html
import json
import os
import signal
import sys
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API = os.environ["API"]
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui;max-width:40em;margin:3em auto;padding:0 1em}}
li{{margin:.6em 0}}small{{color:#777}}</style>
<h1>{title}</h1>
<form method="post"><input name="name" placeholder="Your name" required>
<input name="text" placeholder="Say something" size="40" required> <button>Sign</button></form>
<ul>
{entries}
</ul>
"""


def call(method: str, path: str, value: object = None) -> object:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(API + path, data=body, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        entries = "\n".join(
            f"<li>{html.escape(e['text'])} <small>{html.escape(e['name'])}, {e['at']}</small></li>"
            for e in reversed(call("GET", "/entries"))
        )
        title = html.escape(os.environ.get("TITLE", "Guestbook"))
        body = PAGE.format(title=title, entries=entries or "<li>Nobody has signed yet.</li>").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        call("POST", "/entries", {"name": form["name"][0], "text": form["text"][0]})
        self.send_response(303)
        self.send_header("Location", "/")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        print(format % args)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("front listens on 80, asks", API)
    ThreadingHTTPServer(("0.0.0.0", 80), Handler).serve_forever()
