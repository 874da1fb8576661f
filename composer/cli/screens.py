"""Help and usage errors, by typer, from the same tables that `cli.grammar` reads.

Imported only when someone asks for help or made a mistake.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.verbs import GROUP_PANELS

TYPES: dict[str, Any] = {"bool": bool, "str": str, "int": int | None, "list": list[str]}
SETTINGS: dict[str, Any] = {"help_option_names": ["--help", "-h"]}
Run = Callable[[dict[str, Any]], int | None]


class Shown(NamedTuple):
    """A verb with what runs it and where the list of commands has it."""

    verb: Verb
    run: Run
    panel: str = ""
    hidden: bool = False


def choice(flag: Flag) -> Any:
    return enum.Enum(flag.key, {text: text for text in flag.choices if text})


def choices(flag: Flag) -> str:
    words = [text for text in flag.choices if text]
    return f": {', '.join(words[:-1])} or {words[-1]}" if words else ""


def option(flag: Flag) -> inspect.Parameter:
    names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
    kind = choice(flag) if flag.choices else TYPES[flag.kind]
    initial = flag.initial
    if flag.kind == "bool" and initial:
        names = [f"--{flag.name}/--no-{flag.name}", *names[1:]]
    spec = typer.Option(
        *names,
        help=marked(flag.help + choices(flag)),
        hidden=flag.hidden,
        metavar="" if flag.kind == "bool" else flag.metavar or flag.key.upper(),
        show_default=bool(initial) and flag.kind != "bool",
    )
    if flag.choices and flag.kind == "list":
        kind = list[kind]  # type: ignore[valid-type]
    elif flag.choices:
        initial = kind(initial) if initial in flag.choices and initial else None
        kind = kind if initial is not None else kind | None
    return inspect.Parameter(
        flag.key, inspect.Parameter.KEYWORD_ONLY, default=initial, annotation=Annotated[kind, spec]
    )


def argument(positional: Positional) -> inspect.Parameter:
    kind: Any = list[str] if positional.many else str
    spec = typer.Argument(help=marked(positional.help), metavar=positional.name, show_default=False)
    default: Any = inspect.Parameter.empty
    if not positional.required:
        default = [] if positional.many else ""
    return inspect.Parameter(
        positional.key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, spec]
    )


def function(
    name: str, flags: Sequence[Flag], positionals: Sequence[Positional], run: Run
) -> Callable[..., None]:
    """A function with the signature that typer reads its options from."""

    def body(**values: Any) -> None:
        plain = {key: plainly(value) for key, value in values.items()}
        filled = {flag.key: flag.initial for flag in flags if plain.get(flag.key) is None}
        code = run({**plain, **filled})
        if code is not None:
            raise typer.Exit(code)

    parameters = [argument(p) for p in positionals] + [option(f) for f in flags]
    body.__name__ = name
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    body.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return body


def plainly(value: Any) -> Any:
    """The text behind a choice."""
    if isinstance(value, list):
        return [plainly(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def marked(text: str) -> str:
    """Text for rich: `code` stands out, brackets are brackets."""
    return re.sub(r"`([^`]+)`", r"[bold cyan]\1[/]", escape(text))


def epilogue(verb: Verb, prefix: str) -> str | None:
    """The examples, a line each, what they do beside them; below them where 80 columns do not hold both."""
    if not verb.examples:
        return None
    size = max(len(line) for line, _ in verb.examples)
    beside = len(prefix) + size + max(len(text) for _, text in verb.examples) < 74
    below = "\n    "
    lines = [
        f"[bold cyan]{escape(f'{prefix} {line}')}[/]"
        f"{' ' * (size - len(line) + 3) if beside else below}{escape(text)}"
        for line, text in verb.examples
    ]
    return "\n".join(["\b", "Examples:", *lines])


def command(verb: Verb) -> type[TyperCommand]:
    """Typer's command, with the usage line as manuals write it, and no types where names say it all."""

    class Command(TyperCommand):
        def collect_usage_pieces(self, ctx: Any) -> list[str]:
            return ["[OPTIONS]", *(usage(positional) for positional in verb.positionals)]

        def get_params(self, ctx: Any) -> list[Any]:
            return untyped(super().get_params(ctx))

    return Command


class Group(TyperGroup):
    """Typer's group, whose `--help` is no `<bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        return untyped(super().get_params(ctx))


def untyped(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if parameter.param_type_name == "argument" or parameter.name == "help":
            parameter.display_type_rich = lambda ctx: ""
    return parameters


def usage(positional: Positional) -> str:
    text = positional.name + ("..." if positional.many else "")
    return text if positional.required else f"[{text}]"


def build(
    root_flags: Sequence[Flag],
    root: Run,
    verbs: Mapping[tuple[str, ...], Shown],
    groups: Mapping[str, str],
) -> typer.Typer:
    """The whole application. `verbs` maps ("image", "ls") or ("up",) to its table and what to run."""
    app = typer.Typer(
        name="composer",
        cls=Group,
        add_completion=False,
        rich_markup_mode="rich",
        help="Compose files into running containers, without a daemon.",
        context_settings={**SETTINGS, "allow_interspersed_args": False},
        epilog="composer COMMAND --help says more about a command.",
    )
    app.callback()(function("composer", root_flags, (), root))
    subs = {
        name: typer.Typer(cls=Group, help=marked(text), no_args_is_help=True, context_settings=SETTINGS)
        for name, text in groups.items()
    }
    for path, shown in verbs.items():
        target = app if len(path) == 1 else subs[path[0]]
        verb = shown.verb
        target.command(
            verb.name,
            cls=command(verb),
            help=marked(verb.summary),
            epilog=epilogue(verb, " ".join(["composer", *path[:-1]])),
            hidden=shown.hidden,
            rich_help_panel=shown.panel or None,
            context_settings={**SETTINGS, "allow_interspersed_args": not verb.passthrough},
        )(function(verb.name, verb.flags, verb.positionals, shown.run))
    for name, sub in subs.items():
        app.add_typer(sub, name=name, rich_help_panel=GROUP_PANELS.get(name, "This host"))
    return app
