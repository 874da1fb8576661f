"""Help, completion and usage errors, by typer, from the same tables that `cli.grammar` reads.

Imported only when someone asks for help, completes a word, or made a mistake.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from composer.cli.grammar import Flag, Positional, Verb

TYPES: dict[str, Any] = {"bool": bool, "str": str, "int": int | None, "list": list[str]}
Run = Callable[[dict[str, Any]], int | None]


def choice(flag: Flag) -> Any:
    return enum.Enum(flag.key, {text: text for text in flag.choices})


def option(flag: Flag) -> inspect.Parameter:
    names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
    kind = choice(flag) if flag.choices else TYPES[flag.kind]
    initial = flag.initial
    shown = bool(initial) and flag.kind != "bool"
    spec = typer.Option(
        *names, help=flag.help, hidden=flag.hidden, metavar=flag.metavar or None, show_default=shown
    )
    if flag.choices:
        initial = kind(initial) if initial in flag.choices else None
        kind = kind if initial is not None else kind | None
    return inspect.Parameter(
        flag.key, inspect.Parameter.KEYWORD_ONLY, default=initial, annotation=Annotated[kind, spec]
    )


def argument(positional: Positional, complete: Callable[[str], list[str]] | None) -> inspect.Parameter:
    kind: Any = list[str] if positional.many else str
    completion = (lambda incomplete: complete(incomplete)) if complete and positional.complete else None
    spec = typer.Argument(
        help=positional.help, metavar=positional.name, autocompletion=completion, show_default=False
    )
    default: Any = inspect.Parameter.empty
    if not positional.required:
        default = [] if positional.many else ""
    return inspect.Parameter(
        positional.key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, spec]
    )


def function(
    name: str, flags: Sequence[Flag], positionals: Sequence[Positional], run: Run, complete: Any = None
) -> Callable[..., None]:
    """A function with the signature that typer reads its options from."""

    def body(**values: Any) -> None:
        plain = {key: value.value if isinstance(value, enum.Enum) else value for key, value in values.items()}
        filled = {flag.key: flag.initial for flag in flags if plain.get(flag.key) is None}
        code = run({**plain, **filled})
        if code is not None:
            raise typer.Exit(code)

    parameters = [argument(p, complete) for p in positionals] + [option(f) for f in flags]
    body.__name__ = name
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    body.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return body


def epilogue(verb: Verb, prefix: str) -> str | None:
    if not verb.examples:
        return None
    return "\n\n".join(["Examples:", *(f"`{prefix} {line}`  {text}" for line, text in verb.examples)])


def build(
    root_flags: Sequence[Flag],
    root: Run,
    verbs: Mapping[tuple[str, ...], tuple[Verb, Run]],
    groups: Mapping[str, str],
    complete: Callable[[str], list[str]],
) -> typer.Typer:
    """The whole application. `verbs` maps ("image", "ls") or ("up",) to its table and what to run."""
    app = typer.Typer(
        name="composer",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        help="Compose files into running containers, without a daemon.",
        context_settings={"help_option_names": ["--help", "-h"], "allow_interspersed_args": False},
    )
    app.callback()(function("composer", root_flags, (), root))
    subs = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in groups.items()}
    for name, sub in subs.items():
        app.add_typer(sub, name=name)
    for path, (verb, run) in verbs.items():
        target = app if len(path) == 1 else subs[path[0]]
        target.command(
            verb.name,
            help=verb.summary,
            epilog=epilogue(verb, "composer"),
            context_settings={
                "help_option_names": ["--help", "-h"],
                "allow_interspersed_args": not verb.passthrough,
            },
        )(function(verb.name, verb.flags, verb.positionals, run, complete))
    return app
