"""`composer build`: the images of services, from their Dockerfiles."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.services import selected
from composer.errors import ComposerError, UsageError

if TYPE_CHECKING:
    from composer.build.request import Request
    from composer.build.site import Site


VERB = Verb(
    "build",
    "Build images of services",
    (
        Flag(
            "build-arg", "list", "Value of an ARG; without =VALUE from the environment", metavar="NAME=VALUE"
        ),
        Flag("builder", "str", "Accepted for old scripts; there is one builder"),
        Flag("check", "bool", "Say what is wrong with the Dockerfiles, and build nothing"),
        Flag("list-context", "bool", "List the files that a build can copy, after .dockerignore"),
        Flag("locked", "bool", "Only from the images that the lock file says (see `lock`)"),
        Flag("memory", "str", "Limit of memory of each RUN", "m", metavar="SIZE"),
        Flag("no-cache", "bool", "Carry out every step, though it is known"),
        Flag("print", "bool", "Print what would be built, as JSON for `docker buildx bake`"),
        Flag(
            "progress",
            "str",
            "How the build is shown",
            choices=("auto", "tty", "plain", "json", "quiet", "rawjson", ""),
        ),
        Flag("pull", "bool", "Ask for base images though they are here"),
        Flag("push", "bool", "Push the images when they are built"),
        Flag("quiet", "bool", "Show no output", "q"),
        Flag(
            "ssh",
            "list",
            "An agent or keys for RUN --mount=type=ssh: default, ID=SOCKET or ID=FILE,FILE",
            metavar="ID",
        ),
        Flag("with-dependencies", "bool", "Also images of services that these depend on"),
    ),
    (common.SERVICES,),
    examples=(
        ("build --build-arg VERSION=2 web", "one service, with a value for ARG VERSION"),
        ("build --list-context web", "what .dockerignore leaves"),
    ),
)


def run(context: Context, *, service: list[str], **flags: Any) -> int:
    from composer.build.builder import Builder
    from composer.build.request import requests

    context.check_services(service)
    stack = context.project.stack
    chosen = selected(context.project.stack_data["services"], service, flags["with_dependencies"])
    names = [name for name in chosen if stack.services[name].build]
    images = {name: one.image or f"{stack.name}-{name}" for name, one in stack.services.items()}
    wanted = requests(stack, images, names, options(flags, context.environment), context.environment)
    if flags["print"]:
        print(json.dumps(bake(wanted), indent=2))
        return 0
    if flags["check"] or flags["list_context"]:
        return look(context, wanted, files=flags["list_context"])
    if flags["locked"]:
        from composer.cli.lock import hold_for_build

        if flags["pull"]:
            raise UsageError("--locked and --pull exclude each other")
        hold_for_build(context, names, quiet=flags["quiet"])
    if context.dry_run:
        return wish.announce([f"Image {request.images[0]}" for request in wanted], "Building")
    if not wanted:
        print("No services to build", file=sys.stderr)
        return 0
    from composer.cli.render.building import show

    mode = flags["progress"] or context.options.get("progress", "auto")
    shown = show(
        "quiet" if flags["quiet"] else "json" if mode == "rawjson" else mode,
        context.options.get("ansi", "auto"),
    )
    try:
        Builder(context.paths, shown.tell, context.environment, tick=shown.tick).build(wanted)
    finally:
        shown.close()
    if not flags["quiet"] and mode not in ("json", "rawjson", "quiet"):
        for request in wanted:
            print(f" Image {request.images[0]}  Built", file=sys.stderr)
    return 0


def options(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Any:
    """Raises UsageError."""
    from composer.build.request import Options

    args = {}
    for text in flags["build_arg"]:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--build-arg: {text!r} is not NAME=VALUE")
        if equals or name in environment:
            args[name] = value if equals else environment[name]
    return Options(
        args=args,
        no_cache=flags["no_cache"],
        pull=flags["pull"],
        push=flags["push"],
        memory=common.size(flags["memory"], "--memory"),
        ssh=tuple(flags["ssh"]),
    )


def look(context: Context, wanted: Iterable[Request], *, files: bool) -> int:
    """Read the Dockerfiles and say what is wrong, or list what can be copied. Raises DockerfileError."""
    from composer.build.cache import Cache
    from composer.build.ignore import Ignore
    from composer.build.site import Site, unused_arguments
    from composer.images.store import Store

    for request in wanted:
        site = Site(request, Cache(context.paths), Store(context.paths), context.environment)
        if files:
            for item in site.source("").select(".", Ignore(())):
                for path, node in item.entries:
                    print(f"{path}/" if node.is_directory else path)
            continue
        doubts = [*site.doubts, *surveyed(site)]
        for doubt in doubts:
            print(f"warning: {doubt}", file=sys.stderr)
        for name in unused_arguments(site):
            print(f"warning: no ARG of {site.file} takes the build argument {name}", file=sys.stderr)
        words = f"{len(doubts)} doubtful" if doubts else "nothing is wrong"
        print(f" {request.name}  {site.file}: {words}", file=sys.stderr)
    return 0


def surveyed(site: Site) -> Iterator[str]:
    """What is doubtful once base images are known: registries are asked for those that are not here.

    Raises DockerfileError.
    """
    from composer.build.survey import survey
    from composer.images.config import platform
    from composer.images.reference import parse
    from composer.images.transfer import peek

    known: dict[int, Any] = {}
    for stage in site.plan.needed(site.target):
        if isinstance(stage.base, int) and stage.base not in known:
            continue
        if image := site.missing(stage):
            try:
                site.suppose(image, peek(site.store, parse(image), platform())[1])
            except ComposerError as error:
                yield f"{image} is not known, nor what it sets: {error.message}"
                continue
        found = survey(site, stage, known)
        known[stage.number] = found.state
        yield from map(str, found.doubts)


def bake(wanted: Iterable[Request]) -> dict[str, Any]:
    """The builds in the form of `docker buildx bake`."""
    targets = {}
    for request in wanted:
        fields = {
            "context": request.context,
            "contexts": dict(request.contexts),
            "dockerfile": "" if request.inline else request.dockerfile,
            "dockerfile-inline": request.inline,
            "args": dict(request.args),
            "labels": dict(request.labels),
            "tags": list(request.images),
            "target": request.target,
            "network": request.network,
            "no-cache": request.no_cache,
            "pull": request.pull,
            "secret": [f"id={name}" for name in request.secrets],
            "ssh": [f"{name}={','.join(paths)}" for name, paths in request.ssh.items()],
        }
        targets[request.name] = {name: value for name, value in fields.items() if value}
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}
