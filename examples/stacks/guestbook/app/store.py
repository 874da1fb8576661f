"""Keeps entries, one JSON object a line, in a file on a volume.

Protocol: a client sends one line. `ALL` answers every entry, a line each, and closes; anything else is an
entry to keep and is answered by `OK`.
"""

import json
import os
import signal
import socketserver
import sys
import threading
from pathlib import Path

PATH = Path(sys.argv[1])
LOCK = threading.Lock()


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline(65536).strip()
        if line == b"ALL":
            if PATH.exists():
                self.wfile.write(PATH.read_bytes())
        elif line:
            entry = json.loads(line)
            with LOCK, PATH.open("a") as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.wfile.write(b"OK\n")
            print("kept an entry of", entry.get("name"))


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server(("0.0.0.0", 7000), Handler) as server:
        print("store listens on 7000, keeps entries in", PATH)
        server.serve_forever()
