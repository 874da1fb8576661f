"""`composer container …`: single containers, and any container by its name or id.

A container outside of a stack is a stack of its own: one service of the same name. Its file is kept under
the state directory, so everything that works for stacks works for it: `composer -p NAME …`.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

from composer.api.times import nanoseconds
from composer.cli import common, logs, single
from composer.cli import exec as exec_
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.ps import as_json
from composer.cli.render import words
from composer.cli.render.listing import Columns, listing, show
from composer.errors import ComposerError, ConflictError, NotFoundError, StackFileError, UsageError
from composer.record import ContainerRow, stacks

NAME = Positional("CONTAINER", "Its name, or the beginning of its id", complete="container")
NAMES = Positional("CONTAINER", "Names, or beginnings of ids", many=True, complete="container")
TIME = Flag("time", "str", "How long to wait before killing", "t", metavar="SECONDS")
ALIVE = ("running", "paused")

VERBS = {
    "run": Verb(
        "run",
        "Create and start a container outside of any stack",
        (
            Flag("detach", "bool", "Do not wait for it; print its id", "d"),
            Flag("name", "str", "Its name"),
            Flag("rm", "bool", "Remove it when it has ended"),
            *single.FLAGS,
        ),
        (
            Positional("IMAGE", "What it is made of; `host` shows this host's /usr", complete="image"),
            Positional("COMMAND", "What to run, with its arguments", many=True, required=False),
        ),
        passthrough=True,
        examples=(
            ("run --rm -it host bash", "a shell in a container"),
            ("run -d --name cache -p 6379:6379 redis:7", "in the background"),
        ),
    ),
    "ls": Verb(
        "ls",
        "List containers of all stacks",
        (
            Flag("all", "bool", "Also those that do not run", "a"),
            common.FORMAT,
            Flag("no-trunc", "bool", "Whole ids and commands"),
            Flag("quiet", "bool", "Only ids", "q"),
        ),
    ),
    "inspect": Verb(
        "inspect",
        "Show everything about containers",
        (Flag("format", "str", "A Go template", "f"),),
        (NAMES,),
    ),
    "logs": Verb(
        "logs",
        "Show what a container printed",
        tuple(
            flag
            for flag in logs.VERB.flags
            if flag.name in ("follow", "since", "tail", "timestamps", "until")
        ),
        (NAME,),
    ),
    "exec": Verb(
        "exec",
        "Run a command in a running container",
        tuple(flag for flag in exec_.VERB.flags if flag.name != "index"),
        (NAME, exec_.VERB.positionals[1]),
        passthrough=True,
    ),
    "stop": Verb("stop", "Stop single containers", (TIME,), (NAMES,)),
    "start": Verb("start", "Start single containers", (), (NAMES,)),
    "rm": Verb(
        "rm",
        "Remove single containers",
        (
            Flag("force", "bool", "Also running ones", "f"),
            Flag("volumes", "bool", "Also anonymous volumes", "v"),
        ),
        (NAMES,),
    ),
    "prune": Verb(
        "prune", "Remove single containers that have ended", (Flag("force", "bool", "Do not ask", "f"),)
    ),
}
COLUMNS: Columns = {
    "CONTAINER ID": "ID",
    "IMAGE": "Image",
    "COMMAND": "Command",
    "CREATED": "RunningFor",
    "STATUS": "Status",
    "PORTS": "Ports",
    "NAMES": "Names",
}


# Finding.


def file_of(context: Context, name: str) -> Path:
    """The stack file of a single container."""
    return context.paths.state / "containers" / f"{name}.yaml"


def inside(context: Context, stack: str) -> Context:
    """The same command, about another stack."""
    path = file_of(context, stack)
    files = [str(path)] if path.exists() else []
    return Context({**context.options, "project_name": stack, "file": files})


def find(context: Context, name: str) -> tuple[str, ContainerRow]:
    """The stack and the row of a container. Raises NotFoundError, ComposerError when it is not clear."""
    rows = [(record["stack"], row) for record in stacks(context.paths) for row in record["containers"]]
    exact = [entry for entry in rows if name in (entry[1]["name"], entry[1]["id"])]
    found = exact or [entry for entry in rows if len(name) > 2 and entry[1]["id"].startswith(name)]
    if len(found) > 1:
        raise ComposerError(f"several containers have an id that begins with {name}", hint="give more digits")
    if not found:
        raise NotFoundError(f"there is no container {name}", hint="`composer container ls -a` lists them")
    return found[0]


def own(context: Context, name: str) -> Context:
    """The stack of a single container. Raises ConflictError for one that belongs to a stack of others."""
    stack, row = find(context, name)
    if not file_of(context, stack).exists():
        raise ConflictError(
            f"container {row['name']} belongs to the stack {stack}",
            hint=f"use `composer -p {stack} …` with its service {row['service']}",
        )
    return inside(context, stack)


# Verbs.


def run_run(
    context: Context, *, detach: bool, name: str, rm: bool, image: str, command: list[str], **flags: Any
) -> int:
    from composer.cli import down, up

    if detach and rm:
        raise UsageError("--detach and --rm exclude each other here", hint="`composer container rm -f` later")
    name = name or f"container-{secrets.token_hex(4)}"
    if any(record["stack"] == name and record["containers"] for record in stacks(context.paths)):
        raise ConflictError(f"there is a container or a stack named {name} already", hint="another --name")
    path = file_of(context, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(single.stack(name, image, command, flags), indent=2))
    mine = Context(
        {**context.options, "project_name": name, "file": [str(path)], "project_directory": str(Path.cwd())}
    )
    quiet = {"progress": "quiet"} if context.options.get("progress", "auto") == "auto" else {}
    mine.options |= quiet
    try:
        mine.project  # noqa: B018 - wrong flags are told before anything begins
    except StackFileError as error:
        path.unlink()
        raise single.told(error, name) from error
    try:
        every = {flag.key: flag.initial for flag in up.VERB.flags}
        code = up.run(mine, service=[], **{**every, "detach": detach, "no_start": not detach})
        if detach:
            print(find(context, name)[1]["id"])
        else:
            code = foreground(mine, name, flags)
    except ComposerError:
        if not any(record["stack"] == name and record["containers"] for record in stacks(context.paths)):
            path.unlink()
        raise
    finally:
        if rm:
            every = {flag.key: flag.initial for flag in down.VERB.flags}
            down.run(mine, service=[], **{**every, "timeout": "0"})
            path.unlink(missing_ok=True)
    return code


def foreground(context: Context, name: str, flags: dict[str, Any]) -> int:
    from composer.api.client import Supervisor
    from composer.cli.run import begin

    with Supervisor.start(context.stack_paths) as supervisor:
        ways = {"detach": False, "interactive": flags["interactive"]}
        return begin(context, supervisor, name, ways, tty=flags["tty"])


def run_ls(context: Context, *, all: bool, format: str, no_trunc: bool, quiet: bool) -> int:
    volumes = str(context.paths.volumes)
    rows = [
        as_json(record["stack"], row, volumes, whole=no_trunc)
        for record in stacks(context.paths)
        for row in sorted(record["containers"], key=lambda r: r["created_at"])
        if all or row["state"] in ALIVE
    ]
    if quiet:
        show("\n".join(row["ID"] for row in rows))
    else:
        show(listing(rows, COLUMNS, format))
    return 0


def run_inspect(context: Context, *, format: str, container: list[str]) -> int:
    rows = [details(*find(context, name)) for name in container]
    print(listing(rows, {}, format) if format else json.dumps(rows, indent=4))
    return 0


def details(stack: str, row: ContainerRow) -> dict[str, Any]:
    """All that is known about a container, under Docker's names."""
    health = row["plan"]["health"]
    return {
        "Id": row["id"],
        "Name": f"/{row['name']}",
        "Created": moment(row["created_at"]),
        "Path": (row["command"] or [""])[0],
        "Args": row["command"][1:],
        "State": {
            "Status": row["state"],
            "Running": row["state"] in ALIVE,
            "Paused": row["state"] == "paused",
            "OOMKilled": row["plan"]["oom"],
            "Pid": row["pid"],
            "ExitCode": row["exit_code"],
            "Error": row["reason"],
            "StartedAt": moment(row["started_at"]),
            "FinishedAt": moment(row["finished_at"]),
            **({"Health": {"Status": row["health"], "Log": health["results"]}} if health else {}),
        },
        "Image": row["image_id"],
        "RestartCount": row["restarts"],
        "Config": {
            "Image": row["image"],
            "Labels": row["labels"],
            "Tty": row["tty"],
            "OpenStdin": row["stdin"],
        },
        "HostConfig": {
            "RestartPolicy": {"Name": row["plan"]["restart"]["condition"]},
            # Docker's word for "without a user namespace of its own"; the reason is ours to tell.
            "UsernsMode": "host" if row.get("userns") else "",
            "UsernsReason": row.get("userns", ""),
        },
        "Mounts": [
            {
                "Type": mount["type"],
                "Source": mount["source"],
                "Destination": mount["target"],
                "RW": not mount["read_only"],
            }
            for mount in row["mounts"]
        ],
        "NetworkSettings": {
            "Ports": words.publishers(row["ports"]),
            "Networks": {
                name: {
                    "Aliases": place["aliases"],
                    "Gateway": place["gateway"],
                    "IPAddress": next((a.partition("/")[0] for a in place["addresses"] if ":" not in a), ""),
                    "MacAddress": place["mac"],
                }
                for name, place in row["networks"].items()
            },
        },
        "Stack": stack,
        "Service": row["service"],
    }


def moment(ns: int) -> str:
    if not ns:
        return "0001-01-01T00:00:00Z"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ns // 10**9))}.{ns % 10**9:09}Z"


def run_logs(context: Context, *, container: str, **flags: Any) -> int:
    stack, row = find(context, container)
    every = {flag.key: flag.initial for flag in logs.VERB.flags}
    chosen = {**every, **flags, "no_log_prefix": True, "only": row["name"]}
    return logs.run(inside(context, stack), service=[row["service"]], **chosen)


def run_exec(context: Context, *, container: str, command: list[str], **flags: Any) -> int:
    stack, row = find(context, container)
    return exec_.enter(inside(context, stack), row, command, **flags)


def run_stop(context: Context, *, time: str, container: list[str]) -> int:
    from composer.cli import wish

    for name in container:
        timeout = nanoseconds(time, "--time")
        if end_oneoff(context, name, timeout=timeout):
            continue
        options = {"goal": "stop", "timeout": timeout}
        wish.carry_out(own(context, name), options, title="Stopping", start=False, files=False)
    return 0


def end_oneoff(context: Context, name: str, **ways: Any) -> bool:
    """Stop, or with `remove` remove, what `run` has made; False for any other container."""
    from composer.api.client import Supervisor

    stack, row = find(context, name)
    if row["oneoff"]:
        with Supervisor.start(inside(context, stack).stack_paths) as supervisor:
            supervisor.call("end", container=row["name"], **ways)
    return row["oneoff"]


def run_start(context: Context, *, container: list[str]) -> int:
    from composer.cli import wish

    for name in container:
        wish.carry_out(own(context, name), {"goal": "start"}, files=False)
    return 0


def run_rm(context: Context, *, force: bool, volumes: bool, container: list[str]) -> int:
    from composer.cli.volume import complain

    failed: list[ComposerError] = []
    for name in container:
        try:
            remove(context, name, force=force, volumes=volumes)
            print(name)
        except ComposerError as error:
            failed.append(error)
    return complain(failed)


def remove(context: Context, name: str, *, force: bool, volumes: bool = False) -> None:
    from composer.cli import down, wish

    _, row = find(context, name)
    if row["state"] in ALIVE and not force:
        raise ConflictError(f"container {row['name']} runs", hint="stop it first, or say --force")
    if end_oneoff(context, name, timeout=0, remove=True):
        return
    mine = own(context, name)
    mine.options["progress"] = "quiet"
    if volumes:  # the anonymous ones: named ones outlive their containers
        for options in ({"goal": "stop", "timeout": 0}, {"goal": "rm", "volumes": True}):
            wish.carry_out(mine, options, files=False)
    every = {flag.key: flag.initial for flag in down.VERB.flags}
    down.run(mine, service=[], **{**every, "timeout": "0"})
    file_of(context, mine.stack_name).unlink(missing_ok=True)


def run_prune(context: Context, *, force: bool) -> int:
    from composer.cli.ask import sure

    if not sure("This removes all single containers that have ended.", force):
        return 1
    for record in stacks(context.paths):
        for row in record["containers"]:
            if row["state"] not in ALIVE and file_of(context, record["stack"]).exists():
                remove(context, row["name"], force=False)
                print(row["name"])
    return 0
