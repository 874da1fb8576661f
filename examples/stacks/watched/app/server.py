"""Serves pages/, and at /words what words.txt was sorted into."""

from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

GREETING = "Hello"


class Pages(SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/words":
            text = Path("/tmp/sorted.txt").read_text()
        elif self.path == "/":
            text = Path("/srv/pages/index.txt").read_text().replace("GREETING", GREETING)
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())


print(f"serving, with {GREETING!r}")
HTTPServer(("", 8000), Pages).serve_forever()
