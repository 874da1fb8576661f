"""What a service's `logging` means: the bounds of the file on disk, and who else gets the lines.

Whatever the driver, the file is there, so `composer logs` always works (Docker calls it dual logging). The
names and options of drivers are Docker's. https://docs.docker.com/engine/logging/
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from composer.errors import ComposerError
from composer.model.logdrivers import wrong
from composer.model.stack import Service, Stack
from composer.model.units import size

if TYPE_CHECKING:
    from composer.logs.forward import Forwarder, Sink
    from composer.supervisor.core import Core
    from composer.supervisor.world import Live

MAX_SIZE, MAX_FILE = 64 << 20, 2
"""Logs are bounded unless the file says otherwise: 128 MiB a container."""
STACK_CAP = 1 << 30
"""All the logs of a stack together, as far as its services do not say `max-size` themselves."""
LEAST = 1 << 20

_TAG = re.compile(r"{{\s*\.(\w+)\s*}}")


def check(service: Service) -> None:
    """Raises ComposerError for a driver or an option that does not exist here."""
    if service.logging.driver or service.logging.options:
        driver, options = service.logging.driver, service.logging.options
        where = f"service {service.name}: logging"
        for _, message, hint in wrong(driver, options):
            raise ComposerError(f"{where}: {message}", hint=hint)
        try:
            bounds(service, 1)
            if driver == "syslog":
                syslog_server(options, "", 0)
            tag(options, dict.fromkeys(TAGS, ""))
            for name in options.keys() & {"labels-regex", "env-regex"}:
                re.compile(options[name])
        except (ValueError, re.error) as error:
            raise ComposerError(f"{where}: {error}") from None


def log_settings(service: Service, stack: Stack) -> dict[str, Any]:
    """The keeper's log fields."""
    if service.logging.driver == "none":
        return {"driver": "none"}
    max_size, max_file = bounds(service, sum(each.scale for each in stack.services.values()))
    return {"driver": "file", "max_size": max_size, "max_file": max_file}


def bounds(service: Service, containers: int) -> tuple[int, int]:
    """(bytes a file, files). Raises ValueError."""
    options = service.logging.options
    prefix = "cache-max-" if service.logging.driver in ("journald", "syslog") else "max-"
    told = options.get(f"{prefix}file", str(MAX_FILE if f"{prefix}size" not in options else 1))
    if not told.isdecimal() or int(told) < 1:
        raise ValueError(f"`{prefix}file` must be 1 or more, and not {told}")
    files = int(told)
    if f"{prefix}size" in options:
        text = options[f"{prefix}size"]
        return (0 if text == "-1" else size(text)), files
    return max(LEAST, min(MAX_SIZE, STACK_CAP // (max(containers, 1) * files))), files


# Somebody else who gets the lines.


def forwarder(core: Core, live: Live, service: Service, since_ns: int) -> Forwarder | None:
    make = SINKS.get(service.logging.driver)
    if make is None:
        return None

    def trouble(text: str) -> None:
        driver = service.logging.driver
        if text:
            core.notice(f"{live.name}: {driver} does not take its log: {text}; it waits in the log file")

    from composer.logs.forward import Forwarder

    return Forwarder(core.here.log(live.name), make(live, service), since_ns, trouble)


TAGS: Mapping[str, Callable[[Live], str]] = {
    "ID": lambda live: live.plan.id[:12],
    "FullID": lambda live: live.plan.id,
    "Name": lambda live: live.name,
    "ImageName": lambda live: live.plan.image,
    "ImageID": lambda live: live.plan.image_id.removeprefix("sha256:")[:12],
    "ImageFullID": lambda live: live.plan.image_id,
    "DaemonName": lambda live: "composer",
}


def tag(options: Mapping[str, str], values: Mapping[str, str]) -> str:
    """Docker's template for what lines are called. Raises ValueError."""
    text = options.get("tag") or "{{.ID}}"
    for name in _TAG.findall(text):
        if name not in values:
            raise ValueError(f"`tag`: there is no {{{{.{name}}}}}: known are {', '.join(sorted(values))}")
    return _TAG.sub(lambda match: values[match[1]], text)


def tag_of(live: Live, service: Service) -> str:
    return tag(service.logging.options, {name: of(live) for name, of in TAGS.items()})


def extras(live: Live, service: Service) -> dict[str, str]:
    """Labels and variables that lines carry along."""
    options = service.logging.options
    found: dict[str, str] = {}
    environment = {name: value for name, value in service.environment.items() if value is not None}
    for kind, values in (("labels", live.labels), ("env", environment)):
        names = set(filter(None, options.get(kind, "").split(",")))
        pattern = options.get(f"{kind}-regex")
        found |= {n: v for n, v in values.items() if n in names or (pattern and re.search(pattern, n))}
    return found


def journal(live: Live, service: Service) -> Sink:
    from composer.logs.journal import Journal

    name = tag_of(live, service)
    fields = {
        "CONTAINER_ID": live.plan.id[:12],
        "CONTAINER_ID_FULL": live.plan.id,
        "CONTAINER_NAME": live.name,
        "CONTAINER_TAG": name,
        "IMAGE_NAME": live.plan.image,
        "SYSLOG_IDENTIFIER": name,
    }
    more = {re.sub(r"[^A-Z0-9_]", "_", n.upper()).lstrip("_"): v for n, v in extras(live, service).items()}
    return Journal({**more, **fields})


def syslog(live: Live, service: Service) -> Sink:
    from composer.logs.syslog import Syslog

    return Syslog(syslog_server(service.logging.options, tag_of(live, service), live.pid))


def syslog_server(options: Mapping[str, str], name: str, pid: int) -> Any:
    """Raises ValueError."""
    from composer.logs.syslog import FACILITIES, FORMATS, Address, Server

    facility, form = options.get("syslog-facility", "daemon"), options.get("syslog-format", "")
    if facility.isdecimal() and int(facility) < len(FACILITIES):
        facility = FACILITIES[int(facility)]
    if facility not in FACILITIES:
        raise ValueError(f"`syslog-facility`: there is no {facility}")
    if form not in FORMATS:
        raise ValueError(f"`syslog-format`: there is no {form}")
    parts = urlsplit(options.get("syslog-address", "unixgram:///dev/log"))
    if parts.scheme in ("unix", "unixgram"):
        address = Address(parts.scheme, parts.path)
    elif parts.scheme in ("udp", "tcp", "tcp+tls") and parts.hostname:
        parts.hostname.encode("idna")  # raises ValueError, as nobody could later
        address = Address(parts.scheme, parts.hostname, parts.port or 514)
    else:
        raise ValueError(
            "`syslog-address` must be like udp://HOST:PORT, tcp://…, tcp+tls://… or unix:///PATH"
        )
    names = {"ca": "syslog-tls-ca-cert", "cert": "syslog-tls-cert", "key": "syslog-tls-key"}
    tls = {key: options.get(option, "") for key, option in names.items()}
    insecure = options.get("syslog-tls-skip-verify", "")
    tls["insecure"] = "" if insecure in ("false", "0") else insecure
    return Server(address, FACILITIES.index(facility), form, name, pid, socket.gethostname(), tls)


SINKS: Mapping[str, Callable[[Live, Service], Sink]] = {"journald": journal, "syslog": syslog}
