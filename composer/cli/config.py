"""`composer config`: the stack as composer understands it, its parts as lists, or just whether it is right.

Mistakes go to standard error as text. With `--format json` they are a JSON list, of errors and warnings; with
`--quiet` too, that list is the output, and it is empty when all is well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.errors import Complaint, NotFoundError, StackFileError, UsageError
from composer.model import output
from composer.model.load import Request, Resolved, VariableUse, resolve, stack_of
from composer.model.units import sorted_keys

SWITCHES = ("no_consistency", "no_env_resolution", "no_interpolate", "no_normalize", "no_path_resolution")

VERB = Verb(
    "config",
    "Show the stack as composer understands it",
    (
        Flag("environment", "bool", "Only the variables that the files can use"),
        Flag("format", "str", "yaml or json; with json, mistakes are JSON too", choices=("yaml", "json", "")),
        Flag("hash", "str", "Only the hash of these services; * is all", metavar="SERVICE,…"),
        Flag("images", "bool", "Only names of images"),
        Flag("lock-image-digests", "bool", "An override file that pins images to digests"),
        Flag("models", "bool", "Only names of models"),
        Flag("networks", "bool", "Only keys of networks"),
        Flag("no-consistency", "bool", "Do not check that everything fits together"),
        Flag("no-env-resolution", "bool", "Leave env files alone"),
        Flag("no-interpolate", "bool", "Leave variables in place"),
        Flag("no-normalize", "bool", "Do not fill in what the files leave unsaid"),
        Flag("no-path-resolution", "bool", "Leave relative paths as they are"),
        Flag("output", "str", "Write to this file", "o", metavar="FILE"),
        Flag("profiles", "bool", "Only names of profiles"),
        Flag("quiet", "bool", "Only check; the exit code says whether all is well", "q"),
        Flag("resolve-image-digests", "bool", "Pin images to digests"),
        Flag("services", "bool", "Only names of services, dependencies first"),
        Flag("variables", "bool", "Only the variables that the files use: value, and where it comes from"),
        Flag("volumes", "bool", "Only keys of volumes"),
    ),
    (common.SERVICES,),
    examples=(
        ("config -q", "check the files"),
        ("config --variables", "see each variable's value, and which file or default it comes from"),
        ("config -q --format json", "mistakes for an editor or CI"),
    ),
)


def run(context: Context, *, service: list[str], **flags: Any) -> int:
    json_wanted = flags["format"] == "json"
    try:
        text, warnings = answer(context, service, flags)
    except StackFileError as error:
        if not json_wanted:
            raise
        tell_json(error.complaints, quiet=flags["quiet"])
        return error.exit_code
    if json_wanted and (warnings or flags["quiet"]):
        tell_json(warnings, quiet=flags["quiet"])
    elif warnings:
        from composer.cli.render.complaint import show_warnings

        show_warnings(warnings)
    if not flags["quiet"]:
        write(text, flags["output"])
    return 0


def tell_json(complaints: Iterable[Complaint], *, quiet: bool) -> None:
    from composer.cli.render.complaint import as_json

    print(as_json(complaints), file=sys.stdout if quiet else sys.stderr)


def write(text: str, file: str) -> None:
    if not file:
        print(text, end="" if text.endswith("\n") or not text else "\n")
        return
    try:
        Path(file).write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from None


def answer(
    context: Context, services: list[str], flags: Mapping[str, Any]
) -> tuple[str, tuple[Complaint, ...]]:
    """The text to print, and warnings. Raises StackFileError."""
    from composer.api.project import DiskFiles, find, stdin_of

    views = [name for name in (*LISTS, "variables") if flags[name]]
    if len(views) > 1:
        raise UsageError(f"--{views[0]} and --{views[1]} exclude each other")
    view = views[0] if views else ""
    files = DiskFiles()
    found = find(context.options, context.environment, files)
    changes = {name: True for name in SWITCHES if flags[name]} | {"services": tuple(services)}
    request = found.request.replace(**changes | CHANGES.get(view, {}))
    resolved = resolve(request, files, stdin_of(request))
    warnings = (*found.warnings, *resolved.warnings)
    if view == "variables":
        return variables(resolved, flags["format"]), warnings
    if view:
        lines = LISTS[view](resolved, request, flags)
        return as_list(lines, flags["format"]), warnings
    return document(context, resolved, flags), warnings


def as_list(lines: list[str], style: str) -> str:
    return json.dumps(lines, indent=2) if style == "json" else "".join(f"{line}\n" for line in lines)


def document(context: Context, resolved: Resolved, flags: Mapping[str, Any]) -> str:
    """The whole stack as YAML or JSON."""
    config = resolved.config
    if flags["no_interpolate"]:
        return written(config, flags["format"])
    if flags["resolve_image_digests"] or flags["lock_image_digests"]:
        from composer.cli.digests import pinned

        services = config["services"]
        images = pinned({name: one["image"] for name, one in services.items() if one.get("image")}, context)
        if flags["lock_image_digests"]:
            config = {"services": {name: {"image": image} for name, image in images.items()}}
            return written(config, flags["format"])
        for name, image in images.items():
            services[name]["image"] = image
    return output.json_text(config) if flags["format"] == "json" else output.yaml_text(config)


def written(config: dict[str, Any], style: str) -> str:
    """A tree that is not in normal form: nothing is added, and a $ is a $."""
    if style == "json":
        return json.dumps(config, indent=2, ensure_ascii=False)
    return output.yaml_text(config).replace("$$", "$")


def variables(resolved: Resolved, style: str) -> str:
    """Each variable that the files use: what they say about it, its value, and where that comes from."""
    if style:
        names = ("Name", "DefaultValue", "PresenceValue", "Required", "Value", "Source")
        rows = {
            use.name: dict(
                zip(
                    names if style == "json" else map(str.lower, names),
                    (use.name, use.default, use.alternate, use.required, value_of(use), source_of(use)),
                    strict=True,
                )
            )
            for use in resolved.variables
        }
        return json.dumps(rows, indent=4, ensure_ascii=False) if style == "json" else written(rows, "yaml")
    from composer.cli.render.table import table

    head = ("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE", "VALUE", "SOURCE")
    return table(
        head,
        [
            (
                use.name,
                "true" if use.required else "false",
                *(shown(text) for text in (use.default, use.alternate, value_of(use) or "")),
                source_of(use) or "not set",
            )
            for use in resolved.variables
        ],
    )


def shown(text: str) -> str:
    """One line of a table, whatever the value holds."""
    return text if text.isprintable() else repr(text)[1:-1]


def value_of(use: VariableUse) -> str | None:
    return use.default if use.origin == "default" else use.value


def source_of(use: VariableUse) -> str:
    from composer.cli.render.complaint import near
    from composer.errors import Place

    return near(Place(use.origin)).file if use.origin.startswith("/") else str(use.origin)


Lister = Callable[[Resolved, Request, Mapping[str, Any]], list[str]]


def services(resolved: Resolved, request: Request, flags: Mapping[str, Any]) -> list[str]:
    """Dependencies first, else by name."""
    known = resolved.config["services"]
    found: dict[str, None] = {}
    for start in sorted_keys(known):
        todo = [start]
        while todo:
            name = todo[-1]
            missing = [
                other
                for other in reversed(sorted_keys(known[name].get("depends_on", ())))
                if other in known and other not in found and other not in todo
            ]
            if missing and name not in found:
                todo += missing
            else:
                found[todo.pop()] = None
    return list(found)


def images(resolved: Resolved, request: Request, flags: Mapping[str, Any]) -> list[str]:
    """What each service runs; a service that is only built has the name that its image will get."""
    config = resolved.config
    return [
        config["services"][name].get("image") or f"{config['name']}-{name}"
        for name in services(resolved, request, flags)
        if "provider" not in config["services"][name]
    ]


def keys(section: str) -> Lister:
    return lambda resolved, request, flags: sorted(resolved.config.get(section, ()))


def models(resolved: Resolved, request: Request, flags: Mapping[str, Any]) -> list[str]:
    return sorted(one["model"] for one in resolved.config.get("models", {}).values())


def profiles(resolved: Resolved, request: Request, flags: Mapping[str, Any]) -> list[str]:
    return sorted({p for one in resolved.config["services"].values() for p in one.get("profiles", ())})


def environment(resolved: Resolved, request: Request, flags: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(resolved.environment.items())]


def hashes(resolved: Resolved, request: Request, flags: Mapping[str, Any]) -> list[str]:
    from composer.model.digest import config_hash

    stack = stack_of(request, resolved)
    wanted = sorted(stack.services) if flags["hash"] == "*" else flags["hash"].split(",")
    for name in wanted:
        if name not in stack.services:
            raise NotFoundError(f"no such service: {name}")
    return [f"{name} {config_hash(stack, name)}" for name in wanted]


LISTS: dict[str, Lister] = {
    "services": services,
    "volumes": keys("volumes"),
    "networks": keys("networks"),
    "models": models,
    "hash": hashes,
    "profiles": profiles,
    "images": images,
    "environment": environment,
}
CHANGES: dict[str, dict[str, Any]] = {
    "profiles": {"profiles": ("*",), "no_consistency": True, "no_env_resolution": True},
    "variables": {"no_interpolate": True, "services": ()},
}
"""What a view changes about the request: it looks at everything, also at what is not active or not right."""
