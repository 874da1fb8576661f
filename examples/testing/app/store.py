"""Counts by name, in SQLite. A line `NAME` is answered with its count, one more than the last time."""

import socketserver
import sqlite3
import sys

database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("create table if not exists counts (name text primary key, count integer)")


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            name = line.decode().strip()
            query = (
                "insert into counts values (?, 1) on conflict do update set count = count + 1 returning count"
            )
            (count,) = database.execute(query, (name,)).fetchone()
            self.wfile.write(f"{count}\n".encode())


print("store is ready")
with socketserver.TCPServer(("", 7000), Handler) as server:
    server.serve_forever()
