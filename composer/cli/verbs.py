"""Which verbs there are, where they live, and their line in the list of commands. Imports nothing."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """`part` is the verb's name in a module that holds several: its table is `VERBS[part]`, its function
    `run_<part>`. Otherwise these are `VERB` and `run`."""

    module: str
    summary: str
    panel: str = ""
    part: str = ""
    hidden: bool = False


Table = dict[tuple[str, ...], Entry]


def _panel(title: str, **summaries: str) -> Table:
    """Verbs of one word, each in the module of its name."""
    return {(name,): Entry(f"composer.cli.{name}", text, title) for name, text in summaries.items()}


def _group(name: str, module: str, **summaries: str) -> Table:
    """Verbs of two words, several to a module."""
    return {
        (name, part): Entry(f"composer.cli.{module}", text, part=part) for part, text in summaries.items()
    }


VERBS: Table = {
    **_panel(
        "Every day",
        up="Create and start containers",
        down="Stop and remove containers, networks and, on request, volumes and images",
        start="Start stopped containers",
        stop="Stop containers; they can be started again",
        restart="Restart containers",
        run="Run a command in a new container of a service",
        exec="Run a command in a running container",
        scale="Set the number of containers of services",
    ),
    **_panel(
        "Looking",
        ps="List containers",
        logs="Show what containers printed",
        stats="Show what containers use: CPU, memory, network, disk",
        top="Show the processes of containers",
        port="Show where a port is published",
        events="Show what happens to containers",
        ls="List stacks",
        images="List images of containers",
        volumes="List volumes of the stack",
    ),
    **_panel(
        "Files",
        config="Show the stack as composer understands it",
        plan="Show what `up` would do, and which field made it so",
    ),
    **_panel(
        "Containers",
        create="Create containers without starting them",
        rm="Remove stopped containers",
        kill="Send a signal to containers at once",
        pause="Freeze containers",
        unpause="Let frozen containers go on",
        wait="Wait until containers have ended",
        attach="Join this terminal to a container",
        cp="Copy files to and from containers",
        export="Write a container's files to an archive",
        commit="Make an image from a container",
    ),
    **_panel(
        "Images",
    ),
    **_panel(
        "This host",
        version="Show the version",
    ),
    **_group(
        "volume",
        "volume",
        ls="List volumes",
        create="Create a volume",
        inspect="Show everything about volumes",
        rm="Remove volumes",
        prune="Remove volumes that no container uses",
    ),
}

GROUPS: dict[str, str] = {
    "volume": "Volumes of this host",
}
