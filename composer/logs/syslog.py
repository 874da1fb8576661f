"""Records to a syslog server: RFC 3164 or 5424, over a unix socket, UDP, TCP or TLS.

https://www.rfc-editor.org/rfc/rfc5424, framing over TCP: https://www.rfc-editor.org/rfc/rfc6587, over TLS:
https://www.rfc-editor.org/rfc/rfc5425
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from composer.logs.format import CONTENT, STREAM, TIME

FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "security", "console", "solaris-cron"),
    *(f"local{number}" for number in range(8)),
)
SEVERITIES: Final = {b"stdout": 6, b"stderr": 3}
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
PATIENCE: Final = 5.0
"""Seconds that a server may take."""
LONGEST_DATAGRAM: Final = 65_000


class Address(NamedTuple):
    """`scheme` is unix, unixgram, udp, tcp or tcp+tls; `where` a path, or a host with `port`."""

    scheme: str
    where: str
    port: int = 514


class Server(NamedTuple):
    address: Address
    facility: int
    format: str
    """"", rfc3164, rfc5424 or rfc5424micro. "" is what local servers expect: rfc3164 without a host."""
    tag: str
    pid: int
    hostname: str
    tls: Mapping[str, str]
    """`ca`, `cert`, `key`: files; `insecure`: the certificate is not looked at."""


class Syslog:
    """Raises OSError from `send` while the server cannot be reached."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket: socket.socket | None = None
        self._stream = server.address.scheme in ("tcp", "tcp+tls", "unix")

    def send(self, record: bytes) -> None:
        message = FORMATS[self._server.format](self._server, record)
        if self._socket is None:
            self._socket, self._stream = connected(self._server)
        try:
            if self._stream:
                self._socket.sendall(framed(self._server, message))
            else:
                self._socket.send(message[:LONGEST_DATAGRAM])
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def framed(server: Server, message: bytes) -> bytes:
    """Told apart by newlines, or over TLS, in the newer format, by their lengths: as Docker does."""
    if server.address.scheme == "tcp+tls" and server.format.startswith("rfc5424"):
        return b"%d %b" % (len(message), message)
    return message + b"\n"


def connected(server: Server) -> tuple[socket.socket, bool]:
    """A socket, and whether messages must be told apart in it. Raises OSError."""
    address = server.address
    if address.scheme in ("unix", "unixgram"):
        return local(address.where)
    if address.scheme == "udp":
        family, *_, place = socket.getaddrinfo(address.where, address.port, type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        made.settimeout(PATIENCE)
        made.connect(place)
        return made, False
    plain = socket.create_connection((address.where, address.port), PATIENCE)
    if address.scheme == "tcp":
        return plain, True
    try:
        return context(server.tls).wrap_socket(plain, server_hostname=address.where), True
    except BaseException:
        plain.close()
        raise


def local(path: str) -> tuple[socket.socket, bool]:
    """Most listen for datagrams, some for connections."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
        made.settimeout(PATIENCE)
        try:
            made.connect(path)
        except OSError:
            made.close()
            if kind == socket.SOCK_STREAM:
                raise
        else:
            return made, kind == socket.SOCK_STREAM
    raise AssertionError(path)


def context(tls: Mapping[str, str]) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=tls.get("ca") or None)
    if tls.get("insecure"):
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if tls.get("cert"):
        made.load_cert_chain(tls["cert"], tls.get("key") or None)
    return made


def priority(server: Server, record: bytes) -> bytes:
    return b"<%d>" % (server.facility * 8 + SEVERITIES.get(record[STREAM], 6))


def rfc3164(server: Server, record: bytes, *, host: bool = True) -> bytes:
    """Its times are of this place, without a year."""
    text = record[:TIME].decode()
    moment = time.strptime(text[:19] + "UTC", "%Y-%m-%dT%H:%M:%S%Z")
    here = time.localtime(time.mktime(moment) - time.timezone)
    clock = f"{MONTHS[here.tm_mon - 1]} {here.tm_mday:2} {here.tm_hour:02}:{here.tm_min:02}:{here.tm_sec:02}"
    head = f"{clock} {server.hostname + ' ' if host else ''}{server.tag}[{server.pid}]: "
    return priority(server, record) + head.encode() + record[CONTENT:]


def unix(server: Server, record: bytes) -> bytes:
    return rfc3164(server, record, host=False)


def rfc5424(server: Server, record: bytes, *, digits: int = 0) -> bytes:
    stamp = record[:TIME].decode()
    stamp = stamp[:19] + (f".{stamp[20 : 20 + digits]}" if digits else "") + "Z"
    head = f"1 {stamp} {server.hostname} {server.tag} {server.pid} {server.tag} - "
    return priority(server, record) + head.encode() + record[CONTENT:]


def rfc5424micro(server: Server, record: bytes) -> bytes:
    return rfc5424(server, record, digits=6)


FORMATS: Final[Mapping[str, Callable[[Server, bytes], bytes]]] = {
    "": unix,
    "rfc3164": rfc3164,
    "rfc5424": rfc5424,
    "rfc5424micro": rfc5424micro,
}
