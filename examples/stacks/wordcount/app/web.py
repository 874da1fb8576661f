"""Counts the words people send. PostgreSQL keeps the counts; Redis keeps the page until they change."""

import html
import os
import re
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import psycopg
import redis

PAGE = "page"
FORM = """<!doctype html><title>Word count</title><h1>Word count</h1>
<form method=post><textarea name=text rows=8 cols=60></textarea><br><button>Count</button></form>
<ol>{rows}</ol>"""

# libpq reads the rest (PGHOST, PGUSER, PGDATABASE) from the environment; a password has no business there.
PASSWORD = Path("/run/secrets/password").read_text().strip()

cache = redis.Redis(os.environ["REDIS"], socket_timeout=2)


def connect() -> psycopg.Connection:
    return psycopg.connect(password=PASSWORD, connect_timeout=2)


def count(text: str) -> None:
    found = Counter(re.findall(r"\w+", text.lower()))
    with connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO counts VALUES (%s, %s)"
            " ON CONFLICT (word) DO UPDATE SET times = counts.times + excluded.times",
            sorted(found.items()),  # in one order everywhere, so that two at once never wait for each other
        )
    cache.delete(PAGE)


def page() -> bytes:
    kept = cache.get(PAGE)
    if kept is not None:
        return kept
    with connect() as connection:
        rows = connection.execute("SELECT word, times FROM counts ORDER BY times DESC, word LIMIT 20")
        made = FORM.format(rows="".join(f"<li>{html.escape(word)}: {times}</li>" for word, times in rows))
    cache.set(PAGE, made, ex=60)
    return made.encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/healthy":
            with connect():
                cache.ping()
            self.answer(b"yes\n")
        elif self.path == "/":
            self.answer(page())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers["Content-Length"]), 1 << 20))
        count(parse_qs(body.decode())["text"][0])
        self.send_response(303)
        self.send_header("Location", "/")
        self.end_headers()

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 8000), Handler).serve_forever()
