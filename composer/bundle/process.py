"""What runs: arguments, environment, working directory, signals. The service's word over the image's."""

from __future__ import annotations

import posixpath
import re

from composer.bundle.inputs import Account, Image
from composer.errors import UsageError
from composer.model import known
from composer.model.stack import SECOND, Service

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE = 10 * SECOND
_PORT = re.compile(r"[1-9]\d{0,4}(/(tcp|udp|sctp))?", re.ASCII)


def arguments(service: Service, image: Image) -> list[str]:
    """The argv. An entrypoint of one's own drops the image's CMD, an empty one only the image's ENTRYPOINT.

    `command: []` drops the image's CMD, `command:` without a value keeps it. Raises UsageError when nothing
    is left to run.
    """
    entrypoint = (
        list(image.get("Entrypoint") or ()) if service.entrypoint is None else list(service.entrypoint)
    )
    command = list(image.get("Cmd") or ()) if service.command is None else list(service.command)
    if service.entrypoint and service.command is None:
        command = []
    if not entrypoint and not command:
        raise UsageError(
            f"service {service.name} has nothing to run: its image names no command",
            hint=f"set services.{service.name}.command",
        )
    return entrypoint + command


def environment(service: Service, image: Image, account: Account, hostname: str) -> list[str]:
    """`NAME=value`, the defaults first. A variable without a value is taken away, even the image's."""
    found: dict[str, str | None] = {"PATH": PATH, "HOSTNAME": hostname}
    if service.tty:
        found["TERM"] = "xterm"
    for entry in image.get("Env") or ():
        name, equals, value = entry.partition("=")
        found[name] = value if equals else None
    found.update(service.environment)
    found.setdefault("HOME", account.home)
    return [f"{name}={value}" for name, value in found.items() if value is not None]


def working_dir(service: Service, image: Image) -> str:
    """Raises UsageError for the service's own when it is not absolute. An image's is taken from /."""
    if service.working_dir and not service.working_dir.startswith("/"):
        text = f"service {service.name}: working_dir {service.working_dir!r} is not absolute"
        raise UsageError(text, hint=f"as in /{service.working_dir}")
    return posixpath.normpath(posixpath.join("/", service.working_dir or image.get("WorkingDir") or "/"))


def user(service: Service, image: Image) -> str:
    """The text that `accounts.resolve` turns into numbers."""
    return service.user or image.get("User") or "0"


def exposed(image: Image) -> list[str]:
    """The ports that the image says it serves, as `80` or `53/udp`; what is no port is left out."""
    return [text for text in image.get("ExposedPorts") or () if _PORT.fullmatch(text)]


def stop_signal(service: Service, image: Image) -> str:
    """The signal that asks it to stop. Raises UsageError for a name nobody knows."""
    text = service.stop_signal or image.get("StopSignal") or "SIGTERM"
    try:
        signal_number(text)
    except UsageError as error:
        raise UsageError(f"service {service.name}: stop_signal: {error.message}", hint=error.hint) from None
    return text


def signal_number(text: str) -> int:
    """`SIGTERM`, `term`, `15`, `RTMIN+3`. Raises UsageError."""
    try:
        return known.signal_number(text)
    except ValueError as error:
        raise UsageError(str(error), hint="name one as SIGTERM, TERM or 15") from None


def stop_grace(service: Service) -> int:
    """Nanoseconds between the stop signal and the kill."""
    return GRACE if service.stop_grace_period is None else service.stop_grace_period


def marks(service: Service, stack: str, name: str, number: int) -> dict[str, str]:
    """The annotations of a container: the service's own, and who it is. Raises UsageError."""
    own = {
        "composer.stack": stack,
        "composer.service": service.name,
        "composer.number": str(number),
        "composer.name": name,
    }
    if service.init and service.runtime:
        raise UsageError(
            f"service {service.name}: runtime {service.runtime} has no init",
            hint=f"take `init` or `runtime` out of services.{service.name}",
        )
    if service.init:
        own["composer.init"] = "true"
    return {**service.annotations, **own}
