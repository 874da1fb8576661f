"""`composer top`: processes of containers, as `ps -ef` has them, read from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from composer.api.client import Supervisor
from composer.api.files import Ids
from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Verb
from composer.cli.render.table import table
from composer.runtime.namespaces import root_of

VERB = Verb("top", "Show the processes of containers", (), (common.SERVICES,))
INIT = b"composer.keeper.main"
"""The init of a container is forked by the keeper and has its command line."""
HEAD = ("SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")


class Process(NamedTuple):
    """One process. `start` and `cpu` are in seconds, `start` since the epoch."""

    user: str
    pid: int
    parent: int
    start: float
    tty: int
    cpu: float
    command: str


def run(context: Context, *, service: list[str]) -> int:
    if service:
        context.check_services(service)
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        return 0
    with supervisor:
        pids = supervisor.call("top")["pids"]
    now = time.time()
    rows = [
        (row["service"], str(row["number"]), *shown(process, now))
        for row in sorted(context.record["containers"], key=lambda r: (r["service"], r["number"]))
        if row["name"] in pids and (not service or row["service"] in service)
        for process in filter(None, map(read, pids[row["name"]]))
    ]
    if rows:
        print(table(HEAD, rows))
    return 0


def shown(process: Process, now: float) -> tuple[str, ...]:
    age = max(now - process.start, 0.001)
    began = time.strftime("%H:%M" if age < 86400 else "%b%d", time.localtime(process.start))
    hours, rest = divmod(int(process.cpu), 3600)
    return (
        process.user,
        str(process.pid),
        str(process.parent),
        str(int(100 * process.cpu / age)),
        began,
        terminal(process.tty),
        f"{hours:02}:{rest // 60:02}:{rest % 60:02}",
        process.command,
    )


def terminal(number: int) -> str:
    """proc_pid_stat(5), tty_nr: pseudo-terminals have majors 136 to 143."""
    major, minor = number >> 8 & 0xFFF, (number & 0xFF) | (number >> 12 & 0xFFF00)
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major <= 143 else "?"


def read(pid: int) -> Process | None:
    """A process from /proc (proc(5)); None when it has ended meanwhile."""
    try:
        place = Path(f"/proc/{pid}")
        text = (place / "stat").read_text(errors="replace")
        words = (place / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
        uid = Ids(root_of(pid)).inside(place.stat().st_uid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    tick = os.sysconf("SC_CLK_TCK")
    return Process(
        user=user(uid),
        pid=pid,
        parent=int(fields[1]),
        start=booted() + int(fields[19]) / tick,
        tty=int(fields[4]),
        cpu=(int(fields[11]) + int(fields[12])) / tick,
        command="[init]" if INIT in words else words.decode(errors="replace") or f"[{name}]",
    )


def booted() -> float:
    return time.time() - float(Path("/proc/uptime").read_text().split()[0])


def user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
