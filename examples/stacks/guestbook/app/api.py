"""A small JSON API before the store: GET /entries, POST /entries, GET /health."""

import json
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, _, PORT = os.environ["STORE"].partition(":")


def ask_store(line: str) -> list[str]:
    with socket.create_connection((HOST, int(PORT)), timeout=5) as connection:
        connection.sendall(line.encode() + b"\n")
        with connection.makefile() as answer:
            return answer.read().splitlines()


class Handler(BaseHTTPRequestHandler):
    def reply(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/health":
            self.reply(200, {"ok": True})
        elif self.path == "/entries":
            self.reply(200, [json.loads(line) for line in ask_store("ALL")])
        else:
            self.reply(404, {"error": "no such page"})

    def do_POST(self) -> None:
        entry = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kept = {
            "name": str(entry["name"])[:80],
            "text": str(entry["text"])[:1000],
            "at": time.strftime("%Y-%m-%d %H:%M"),
        }
        ask_store(json.dumps(kept))
        self.reply(201, kept)

    def log_message(self, format: str, *args: object) -> None:
        if self.path != "/health":
            print(format % args)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("api listens on 8000")
    ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
