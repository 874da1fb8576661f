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
        watch="Bring what is saved here into containers, as it is saved",
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
        why="Say why a service is not up, and what to try",
        ui="Show the stack on the whole screen, live, with keys",
        stats="Show what containers use: CPU, memory, network, disk",
        top="Show the processes of containers",
        port="Show where a port is published",
        events="Show what happens to containers",
        reached="Show names and addresses outside of the stack that containers reached for",
        graph="Draw dependencies and networks",
        ls="List stacks",
        images="List images of containers",
        volumes="List volumes of the stack",
    ),
    **_panel(
        "Files",
        config="Show the stack as composer understands it",
        plan="Show what `up` would do, and which field made it so",
        lock="Write the digests of all images to a file that `up --locked` holds to",
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
        build="Build images of services",
        pull="Pull images of services",
        push="Push images of services",
    ),
    **_panel(
        "This host",
        doctor="Check that this host has what containers need",
        version="Show the version",
        completion="Print the completion script for a shell",
    ),
    **_group(
        "container",
        "container",
        run="Create and start a container outside of any stack",
        ls="List containers of all stacks",
        inspect="Show everything about containers",
        logs="Show what a container printed",
        exec="Run a command in a running container",
        stop="Stop single containers",
        start="Start single containers",
        rm="Remove single containers",
        prune="Remove single containers that have ended",
    ),
    **_group(
        "image",
        "image",
        ls="List images",
        pull="Pull images",
        push="Push images",
        tag="Give an image one more name",
        rm="Remove images",
        inspect="Show everything about images",
        history="Show how an image was made",
        prune="Remove images that are not needed",
    ),
    **_group(
        "image",
        "archives",
        save="Write images to an archive",
        load="Take in images of an archive",
        check="Read every byte of the store and say what is wrong",
        **{"import": "Make an image of an archive of files"},
    ),
    **_group(
        "network",
        "network",
        ls="List networks",
        create="Create a network that stacks can share",
        inspect="Show everything about networks",
        rm="Remove networks",
        connect="Put a container on a network",
        disconnect="Take a container off a network",
        prune="Remove networks that nobody uses",
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
    **_group(
        "fault",
        "fault",
        partition="Keep services from reaching each other",
        drop="Pull the network cable of services, or of all on a network",
        delay="Have what services send arrive later, or not at all",
        kill="Kill containers, and start them again afterwards",
        pause="Freeze containers, and thaw them afterwards",
        clock="Restart services with clocks that are ahead or behind",
        **{"freeze-dns": "Have services get no answers from their resolver"},
        **{"fill-disk": "Fill a bounded file system of a service"},
        ls="List the faults of now",
        clear="Undo faults",
    ),
    **_group(
        "snapshot",
        "snapshot",
        create="Keep the data of the stack as it is now",
        ls="List snapshots",
        restore="Go back to a snapshot",
        rm="Remove snapshots",
    ),
    **_group(
        "system",
        "system",
        df="Show what is on the disk",
        info="Show what this host is like",
        prune="Remove what nobody uses",
        enable="Start a stack again when the machine has started",
        disable="Start a stack no more when the machine has started",
    ),
    ("__complete",): Entry("composer.cli.offer", "Offer words to a shell", hidden=True),
}

NO_DRY_RUN = frozenset(
    {
        *((verb,) for verb in ("attach", "commit", "cp", "exec", "kill", "ui", "wait")),
        *(("container", part) for part in ("run", "exec", "stop", "start", "rm", "prune")),
        *(("image", part) for part in ("pull", "push", "tag", "rm", "prune", "load", "import")),
        *(("network", part) for part in ("create", "rm", "connect", "disconnect", "prune")),
        *(("volume", part) for part in ("create", "rm", "prune")),
        *(("system", part) for part in ("prune", "enable", "disable")),
        *(("fault", "clear"), ("snapshot", "rm")),
    }
)
"""Verbs that do something, and cannot tell what without doing it."""

GROUPS: dict[str, str] = {
    "container": "Single containers, and all containers of this host",
    "image": "Images of this host",
    "network": "Networks of this host",
    "fault": "Disturb the stack on purpose, and undo it",
    "snapshot": "Snapshots of the stack: its volumes and what its containers wrote",
    "system": "This host: disk usage, cleaning up, starting with the machine",
    "volume": "Volumes of this host",
}

GROUP_PANELS: dict[str, str] = {"fault": "Experiments", "snapshot": "Experiments"}
"""Of the groups that are about a stack and not about this host."""
