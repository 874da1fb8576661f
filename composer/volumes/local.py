"""The options of Docker's `local` volume driver: what to mount instead of a plain folder.

`type`, `o` and `device` mean what mount(8) means by them. `o=bind` shows a directory of the host;
everything else is mounted over the volume's own folder at first use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from composer.errors import ComposerError, NotFoundError, UsageError
from composer.syscalls import mount
from composer.value import Value

# mount(2), by the names mount(8) has for them; negative ones clear.
FLAGS = {
    "defaults": 0, "rw": 0, "ro": 1, "suid": 0, "nosuid": 2, "dev": 0, "nodev": 4, "exec": 0, "noexec": 8,
    "sync": 16, "async": 0, "remount": 32, "mand": 64, "dirsync": 128, "atime": 0, "noatime": 1024,
    "nodiratime": 2048, "relatime": 1 << 21, "strictatime": 1 << 24, "silent": 1 << 15,
}  # fmt: skip
BIND = ("bind", "rbind")


class LocalOptions(Value):
    """What the options of a volume ask for. An empty `type` with no `bind` is a plain folder."""

    type: str = ""
    device: str = ""
    flags: int = 0
    data: str = ""
    bind: bool = False


def local_options(name: str, options: Mapping[str, str]) -> LocalOptions:
    """Raises UsageError for options that the driver does not have, or that make no sense together."""
    if unknown := sorted(set(options) - {"type", "o", "device"}):
        raise UsageError(
            f"volume {name}: the local driver has no option {unknown[0]!r}", hint="type, o, device"
        )
    kind, device = options.get("type", ""), options.get("device", "")
    words = [word.strip() for word in options.get("o", "").split(",") if word.strip()]
    bind = any(word in BIND for word in words)
    if not options:
        return LocalOptions()
    if bind or kind in BIND:
        if not os.path.isabs(device):
            raise UsageError(
                f"volume {name}: a bind needs `device`, an absolute path", hint=f"it is {device!r}"
            )
        if rest := [word for word in words if word not in (*BIND, "rw", "defaults")]:
            hint = "read_only and propagation are said where the volume is used"
            raise UsageError(f"volume {name}: a bind has no option {rest[0]!r} here", hint=hint)
        return LocalOptions("none", device, bind=True)
    if not kind or kind == "none":
        raise UsageError(f"volume {name}: the options need `type`", hint="tmpfs, nfs, ext4, or o: bind")
    if not device and kind != "tmpfs":
        raise UsageError(f"volume {name}: a volume of type {kind} needs `device`")
    flags, data = 0, []
    for word in words:
        if word in FLAGS:
            flags |= FLAGS[word]
        else:
            data.append(word)
    return LocalOptions(kind, device or kind, flags, ",".join(data))


def source(name: str, wanted: LocalOptions, folder: Path) -> Path:
    """The directory that containers see; mounted first when it must be. Raises ComposerError."""
    if wanted.bind:
        if not Path(wanted.device).is_dir():
            raise NotFoundError(f"volume {name}: there is no directory {wanted.device}")
        return Path(wanted.device)
    if wanted.type and not os.path.ismount(folder):
        data = _resolved(wanted.data) if wanted.type.startswith("nfs") else wanted.data
        try:
            mount(wanted.device, folder, wanted.type, wanted.flags, data)
        except OSError as error:
            raise ComposerError(
                f"volume {name}: cannot mount {wanted.device} of type {wanted.type}: {error.strerror}"
            ) from error
    return folder


def _resolved(data: str) -> str:
    """The kernel wants addresses where people write names: addr=nas is looked up."""
    import socket

    words = []
    for word in data.split(","):
        key, equals, value = word.partition("=")
        if key == "addr" and equals:
            try:
                value = str(socket.getaddrinfo(value, None)[0][4][0])
            except socket.gaierror as error:
                raise ComposerError(f"the name {value} cannot be resolved: {error.strerror}") from error
        words.append(f"{key}{equals}{value}")
    return ",".join(words)
