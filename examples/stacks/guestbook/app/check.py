"""Health check: exit 0 when an http:// page answers 200 or a tcp:// port accepts."""

import socket
import sys
import urllib.parse
import urllib.request

target = urllib.parse.urlsplit(sys.argv[1])
try:
    if target.scheme == "tcp":
        socket.create_connection((target.hostname, target.port), timeout=2).close()
    else:
        urllib.request.urlopen(sys.argv[1], timeout=2).close()
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
