"""A stack's record on disk: its one reader and writer. Quick commands read it and need no supervisor.

The shape is plain JSON, described by the types below and versioned. What was running when the machine or the
keeper went down is told apart by `boot` and by the keeper's life lock: `read_record` says what is true now.
"""

from __future__ import annotations

from typing import Any, TypedDict

from composer.disk import is_locked, read_json, write_json
from composer.errors import ComposerError
from composer.paths import Paths, StackPaths

VERSION = 1
LOST = 137
"""The exit code of a container whose keeper or machine went down under it: killed."""


class PortRow(TypedDict):
    host_ip: str
    published: int
    target: int
    protocol: str


class NetworkRow(TypedDict):
    interface: str
    addresses: list[str]
    gateway: str
    mac: str
    aliases: list[str]
    asked: dict[str, Any]
    """The Attachment that it was made by, as JSON."""


class ContainerRow(TypedDict):
    """One container as `ps`, `logs`, `port` and `inspect` show it. Times are nanoseconds since the epoch."""

    name: str
    id: str
    service: str
    number: int
    oneoff: bool
    state: str
    health: str
    exit_code: int
    reason: str
    pid: int
    image: str
    image_id: str
    command: list[str]
    created_at: int
    started_at: int
    finished_at: int
    restarts: int
    tty: bool
    stdin: bool
    labels: dict[str, str]
    ports: list[PortRow]
    networks: dict[str, NetworkRow]
    mounts: list[dict[str, Any]]
    anonymous: dict[str, str]
    userns: str
    plan: dict[str, Any]


class Record(TypedDict):
    """`files` and `working_dir` are those of the last `up`. `owner`: the process that the stack lives for, by
    number and start time; empty when it lives until somebody takes it down."""

    version: int
    stack: str
    working_dir: str
    files: list[str]
    name_given: bool
    boot: str
    keeper: int
    digest: str
    containers: list[ContainerRow]
    networks: dict[str, str]
    slots: dict[str, dict[str, Any]]
    oneoffs: dict[str, dict[str, Any]]
    owner: list[int]


def empty(stack: str) -> Record:
    return Record(
        version=VERSION,
        stack=stack,
        working_dir="",
        files=[],
        name_given=False,
        boot="",
        keeper=0,
        digest="",
        containers=[],
        networks={},
        slots={},
        oneoffs={},
        owner=[],
    )


def write_record(paths: StackPaths, record: Record, *, durable: bool = False) -> None:
    """Replace the record. Only the supervisor writes."""
    write_json(paths.record, record, durable=durable)


def stored_record(paths: StackPaths) -> Record | None:
    """The record as it was written last; one that a power cut damaged is as good as none.

    Raises ComposerError when it is of another version.
    """
    try:
        record: Record | None = read_json(paths.record)
    except ValueError:
        return None
    if record is not None and record["version"] != VERSION:
        raise ComposerError(
            f"the record of stack {record['stack']} was written by another version of composer",
            hint="take the stack down with that version first",
        )
    return record


def read_record(paths: StackPaths) -> Record:
    """What is true now: without a living keeper of this boot, nothing of the stack runs."""
    record = stored_record(paths)
    if record is None:
        return empty(paths.run.name)
    if not is_locked(paths.life):
        settle(record, paths.record.stat().st_mtime_ns)
    return record


def settle(record: Record, at: int) -> None:
    """Mark what its keeper or the machine took with it: it has ended, and no connection wakes it.

    `at`: when it was last seen, in ns.
    """
    for row in record["containers"]:
        row["plan"]["gated"] = False  # its ports went with the keeper
        if row["state"] == "restarting":
            row["state"] = "exited"
        elif row["state"] in ("running", "paused"):
            row["state"], row["exit_code"], row["pid"] = "exited", LOST, 0
            row["health"], row["finished_at"] = "", at
            row["reason"] = row["reason"] or "its keeper or the machine went down"


def damaged(paths: StackPaths) -> bool:
    """Whether there is a record that says nothing."""
    return paths.record.exists() and stored_record(paths) is None


def stacks(paths: Paths) -> list[Record]:
    """Every stack that has something on this host, by name."""
    return [read_record(paths.stack(name)) for name in names(paths)]


def names(paths: Paths) -> list[str]:
    """Of the stacks that have something on this host."""
    found = set()
    for root in (paths.stacks_state, paths.stacks_run):
        if root.is_dir():
            found |= {entry.name for entry in root.iterdir() if entry.is_dir()}
    return sorted(found)
