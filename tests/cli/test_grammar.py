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
from composer.cli.app import ROOT_FLAGS, find_verb, main, table, with_environment
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


@settings(max_examples=250)
@given(command_lines())
def test_both_read_valid_lines_alike(line: tuple[tuple[str, ...], list[str]]) -> None:
    path, argv = line
    expected = by_typer(path, argv)
    assert expected is not None
    assert read(verb_of(path), argv) == expected


@settings(max_examples=150)
@given(command_lines(), st.sampled_from(["--nope", "-?", "--nope=1"]), st.integers(0, 3))
def test_what_the_quick_one_accepts_typer_accepts(
    line: tuple[tuple[str, ...], list[str]], wrong: str, at: int
) -> None:
    path, argv = line
    argv = [*argv[:at], wrong, *argv[at:]]
    try:
        quick = read(verb_of(path), argv)
    except (Unsure, UsageError):
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


def test_what_is_missing_is_left_to_the_screens() -> None:
    with pytest.raises(Unsure):
        read(verb_of(("down",)), ["--rmi"])


CHOSEN = [
    (path, flag) for path in PATHS for flag in verb_of(path).flags if flag.choices or flag.kind == "int"
]


@pytest.mark.parametrize(("path", "flag"), CHOSEN, ids=[" ".join((*p, f.name)) for p, f in CHOSEN])
def test_a_value_that_cannot_be_is_refused_in_our_words(path: tuple[str, ...], flag: Flag) -> None:
    """Every choice and every number, of every command."""
    with pytest.raises(UsageError) as caught:
        read(verb_of(path), [f"--{flag.name}", "no-such"])
    assert caught.value.message.startswith(f"--{flag.name}: 'no-such' is no")
    assert all(word in caught.value.message for word in flag.choices)


REFUSED = [
    ("--parallel x ps", "--parallel: 'x' is no whole number"),
    ("--progress plan ps", "--progress: 'plan' is none of auto, tty, plain, json, quiet"),
    ("up -d -t x", "--timeout: 'x' is no time"),
    ("ps --filter status=runing", "--filter status: 'runing' is none of paused, restarting, removing"),
    ("ps --filter name=x", "--filter: 'name=x' is no filter of status=…"),
    ("ls --filter status=x", "--filter: 'status=x' is no filter of name=…"),
    ("image ls --filter dangling=foo", "--filter dangling: 'foo' is none of true, false"),
    ("image ls --filter foo=bar", "--filter: 'foo=bar' is no filter of dangling=…, reference=…"),
    ("volume ls --filter dangling=", "--filter: 'dangling=' is no filter of"),
    ("network ls --filter type=foo", "--filter type: 'foo' is none of custom, builtin"),
    ("logs --since foo", "--since: 'foo' is no time"),
    ("logs --tail x", "--tail: 'x' is no number of lines"),
    ("events --until foo", "--until: 'foo' is no time"),
    ("kill -s foo", "--signal: 'foo' is no signal"),
    ("pause --idle --after x", "--after: 'x' is no time"),
    ("build --memory foo", "--memory: 'foo' is no size"),
    ("image prune --keep-size foo", "--keep-size: 'foo' is no size"),
    ("fault fill-disk web --path /x --size foo", "--size: 'foo' is no size"),
    ("fault delay web --loss foo", "--loss: 'foo' is no share"),
    ("system df --format foo", "--format: 'foo' is none of table, json, or a template"),
    ("ps --format foo", "--format: 'foo' is none of table, json, or a template"),
    ("system info --format foo", "--format: 'foo' is none of text, json"),
    ("network create --subnet foo x", "--subnet: 'foo' is no subnet"),
    ("network create --gateway foo x", "--gateway: 'foo' is no IP address"),
    ("container run --cpus x host true", "--cpus: must be a number, not `x`"),
    ("container run --memory x --pids-limit y host true", "--memory: `x` is not a size"),
    ("container run --memory x --pids-limit y host true", "--pids-limit: must be a whole number"),
    ("container run --restart foo host true", "--restart: 'foo' is none of no, always"),
    ("container run --stop-signal foo host true", "--stop-signal: 'foo' is no signal"),
    ("container run --health-interval 5s host true", "--health-interval goes with --health-cmd"),
    ("container run --health-cmd x --health-interval foo host true", "--health-interval: `foo` is not"),
    ("container run --dns foo host true", "--dns: 'foo' is no IP address"),
    ("container run --publish foo host true", "--publish: `foo`: `foo` is not a port"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), REFUSED, ids=[line for line, _ in REFUSED])
def test_values_of_flags_are_judged_alike(
    line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--FLAG: 'value' is no …`, exit code 2, and nothing is left behind."""
    (tmp_path / "compose.yaml").write_text("services: {web: {image: host}}")
    monkeypatch.chdir(tmp_path)
    for name in ("STATE", "RUN"):
        monkeypatch.setenv(f"COMPOSER_{name}_DIR", str(tmp_path / name))
    assert main(line.split()) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("*/stacks/*")) and not list(tmp_path.glob("STATE/containers/*"))


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
