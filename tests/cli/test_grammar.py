"""The quick reader and typer read every valid command line alike; the quick one never accepts a wrong one."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.cli import manual, screens
from composer.cli.app import ROOT_FLAGS, find_verb, table, with_environment
from composer.cli.grammar import Flag, Unsure, Verb, read
from composer.cli.verbs import GROUPS, NO_DRY_RUN, VERBS, Entry
from composer.errors import UsageError

PATHS = sorted(VERBS)
assert set(PATHS) >= NO_DRY_RUN
WORDS = st.text("abcxyz019./:,", min_size=1, max_size=6)
heard: list[dict[str, Any]] = []


@cache
def verb_of(path: tuple[str, ...]) -> Verb:
    return table(VERBS[path])


@cache
def typer_app(path: tuple[str, ...]) -> Any:
    def run(values: dict[str, Any]) -> int:
        heard.append(values)
        return 0

    groups = {path[0]: ""} if len(path) == 2 else {}
    return screens.build((), lambda _: None, {path: screens.Shown(verb_of(path), run)}, groups)


def by_typer(path: tuple[str, ...], argv: Sequence[str]) -> dict[str, Any] | None:
    """The values, None when typer refuses."""
    heard.clear()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            typer_app(path)([*path, *argv], prog_name="composer")
        except SystemExit as end:
            if end.code:
                return None
    return heard[0] if heard else None


def value_of(flag: Flag) -> st.SearchStrategy[str]:
    if flag.choices:
        return st.sampled_from([text for text in flag.choices if text])
    return st.integers(-5, 99).map(str) if flag.kind == "int" else WORDS


@st.composite
def flag_words(draw: st.DrawFn, flag: Flag) -> list[str]:
    if flag.kind == "bool":
        return [draw(st.sampled_from([f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]))]
    text = draw(value_of(flag))
    forms = [[f"--{flag.name}", text], [f"--{flag.name}={text}"]]
    if flag.short:
        forms.append([f"-{flag.short}", text])
    return draw(st.sampled_from(forms))


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[tuple[str, ...], list[str]]:
    path = draw(st.sampled_from(PATHS))
    verb = verb_of(path)
    flags = draw(st.lists(st.sampled_from(verb.flags), max_size=5)) if verb.flags else []
    words = [draw(flag_words(flag)) for flag in flags]
    for positional in verb.positionals:
        least = 1 if positional.required else 0
        most = 3 if positional.many else 1
        words += [[text] for text in draw(st.lists(WORDS, min_size=least, max_size=most))]
    if not verb.passthrough:
        words = draw(st.permutations(words))
    return path, [text for group in words for text in group]


@settings(max_examples=250, deadline=None)
@given(command_lines())
def test_both_read_valid_lines_alike(line: tuple[tuple[str, ...], list[str]]) -> None:
    path, argv = line
    expected = by_typer(path, argv)
    assert expected is not None
    assert read(verb_of(path), argv) == expected


@settings(max_examples=150, deadline=None)
@given(command_lines(), st.sampled_from(["--nope", "-?", "--nope=1"]), st.integers(0, 3))
def test_what_the_quick_one_accepts_typer_accepts(
    line: tuple[tuple[str, ...], list[str]], wrong: str, at: int
) -> None:
    path, argv = line
    argv = [*argv[:at], wrong, *argv[at:]]
    try:
        quick = read(verb_of(path), argv)
    except Unsure:
        return
    assert quick == by_typer(path, argv)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_verb_has_a_table_and_a_function(path: tuple[str, ...]) -> None:
    entry = VERBS[path]
    verb = table(entry)
    assert verb.name == path[-1]
    assert len({flag.name for flag in verb.flags}) == len(verb.flags)
    shorts = [flag.short for flag in verb.flags if flag.short]
    assert len(set(shorts)) == len(shorts)
    assert len(path) == 1 or path[0] in GROUPS
    for line, _ in verb.examples:
        assert line.split()[0] == path[-1], line  # the group stands before it already


@pytest.mark.parametrize(
    ("verb", "argv", "expected"),
    [
        ("kill", ["-s", "9", "web"], {"signal": "9", "remove_orphans": False, "service": ["web"]}),
        ("kill", ["-s9"], {"signal": "9", "remove_orphans": False, "service": []}),
        ("pause", ["--", "--odd"], {"service": ["--odd"]}),
        ("down", ["--rmi", "local"], {"rmi": "local"}),
        ("attach", ["--sig-proxy=false", "web"], {"sig_proxy": False}),
        ("attach", ["web"], {"sig_proxy": True, "detach_keys": "ctrl-p,ctrl-q"}),
    ],
)
def test_read(verb: str, argv: list[str], expected: dict[str, Any]) -> None:
    values = read(verb_of((verb,)), argv)
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("argv", [["--rmi", "some"], ["--rmi"]])
def test_what_is_no_choice_is_left_to_the_screens(argv: list[str]) -> None:
    with pytest.raises(Unsure):
        read(verb_of(("down",)), argv)


def test_a_full_disk_below_standard_output_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "composer", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"


def test_options_end_at_the_command_of_run_and_exec() -> None:
    assert read(verb_of(("run",)), ["--rm", "web", "ls", "--rm", "-l"])["command"] == ["ls", "--rm", "-l"]
    assert read(verb_of(("exec",)), ["-T", "web", "ls", "-T"])["command"] == ["ls", "-T"]


def test_find_verb_prefers_the_longer() -> None:
    assert find_verb(["image", "ls", "x"]) == (("image", "ls"), ["x"])
    assert find_verb(["ls", "image"]) == (("ls",), ["image"])
    with pytest.raises(Unsure):
        find_verb(["image"])


def test_root_flags_are_docker_composes() -> None:
    names = {flag.name for flag in ROOT_FLAGS}
    assert names >= {
        "file", "project-name", "project-directory", "profile", "env-file", "parallel", "progress", "ansi",
        "compatibility", "all-resources", "dry-run",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "environment", "key", "value"),
    [
        ({}, {"COMPOSE_PARALLEL_LIMIT": "3"}, "parallel", 3),
        ({"parallel": 5}, {"COMPOSE_PARALLEL_LIMIT": "3"}, "parallel", 5),
        ({}, {"COMPOSE_PROGRESS": "plain"}, "progress", "plain"),
        ({}, {"COMPOSE_ANSI": "never"}, "ansi", "never"),
        ({}, {"COMPOSER_OFFLINE": "1"}, "offline", True),
        ({}, {"COMPOSER_OFFLINE": "0"}, "offline", False),
    ],
)
def test_variables_of_docker_compose(
    given: dict[str, Any], environment: dict[str, str], key: str, value: object
) -> None:
    options = {flag.key: flag.initial for flag in ROOT_FLAGS} | given
    assert with_environment(options, environment)[key] == value


def test_variables_that_make_no_sense() -> None:
    options = {flag.key: flag.initial for flag in ROOT_FLAGS}
    with pytest.raises(UsageError, match="COMPOSE_PROGRESS"):
        with_environment(options, {"COMPOSE_PROGRESS": "loud"})


def test_entries_are_hidden_only_when_shells_ask() -> None:
    assert [path for path, entry in VERBS.items() if entry.hidden] == [("__complete",)]
    assert all(isinstance(entry, Entry) for entry in VERBS.values())


def test_the_manual_is_up_to_date() -> None:
    """`python -m composer.cli.manual docs/commands.md` makes it so."""
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    assert text.partition(manual.MARK)[2] == f"\n{manual.reference()}"
