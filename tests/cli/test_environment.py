"""Every variable of Docker Compose that docs/differences.md names does what is said there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.host import Host, Stack, Terminal

# The command line is run for real, with directories of its own.
pytestmark = pytest.mark.kernel

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"
FILES = {
    ".env": "SAID=dot\n",
    "one.env": "SAID=one\nOTHER=one\n",
    "two.env": "SAID=two\n",
    "other.yaml": "services: {other: {image: host}}\n",
}
FILE = """
    services:
      web: {image: host, init: true, command: [sleep, "1000"], labels: {said: "${SAID-nothing}"}}
      tool: {image: host, profiles: [tools]}
"""
ROWS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "COMPOSE_FILE": ({"COMPOSE_FILE": "other.yaml"}, {"services": ["other"]}),
    "COMPOSE_FILE of several": ({"COMPOSE_FILE": "compose.yaml:other.yaml"}, {"services": ["other", "web"]}),
    "COMPOSE_PATH_SEPARATOR": (
        {"COMPOSE_FILE": "compose.yaml@other.yaml", "COMPOSE_PATH_SEPARATOR": "@"},
        {"services": ["other", "web"]},
    ),
    "COMPOSE_PROFILES": ({"COMPOSE_PROFILES": "x,tools"}, {"services": ["tool", "web"]}),
    "COMPOSE_PROJECT_NAME": ({"COMPOSE_PROJECT_NAME": "named"}, {"name": "named"}),
    "COMPOSE_ENV_FILES": ({"COMPOSE_ENV_FILES": "one.env"}, {"said": "one"}),
    "COMPOSE_ENV_FILES of several": ({"COMPOSE_ENV_FILES": "one.env,two.env"}, {"said": "two"}),
    "COMPOSE_DISABLE_ENV_FILE": ({"COMPOSE_DISABLE_ENV_FILE": "true"}, {"said": "nothing"}),
    "COMPOSE_CONVERT_WINDOWS_PATHS": ({"COMPOSE_CONVERT_WINDOWS_PATHS": "1"}, {}),
    "COMPOSE_EXPERIMENTAL": ({"COMPOSE_EXPERIMENTAL": "1"}, {}),
    "COMPOSE_BAKE": ({"COMPOSE_BAKE": "1"}, {}),
    "DOCKER_HOST": ({"DOCKER_HOST": "tcp://127.0.0.1:1"}, {}),
}


@pytest.fixture
def stack(host: Host) -> Stack:
    return host.stack(FILE, files=FILES)


@pytest.mark.parametrize("row", ROWS)
def test_what_is_read(stack: Stack, row: str) -> None:
    environment, differs = ROWS[row]
    plain = {"services": ["web"], "name": stack.name, "said": "dot"}
    if "services" in differs and "web" not in differs["services"]:
        del plain["said"]
    config = json.loads(stack.ok("config", "--format", "json", env=environment))
    found = {"services": sorted(config["services"]), "name": config["name"]}
    if "web" in config["services"]:
        found["said"] = config["services"]["web"]["labels"]["said"]
    assert found == plain | differs


def test_an_option_goes_before_its_variable(stack: Stack) -> None:
    words = ("-p", "option", "-f", "other.yaml", "config", "--format", "json")
    config = json.loads(
        stack.ok(*words, env={"COMPOSE_PROJECT_NAME": "named", "COMPOSE_FILE": "compose.yaml"})
    )
    assert (config["name"], list(config["services"])) == ("option", ["other"])


def test_variables_may_stand_in_the_file_of_variables(stack: Stack) -> None:
    (stack.folder / ".env").write_text("COMPOSE_FILE=other.yaml\nCOMPOSE_PROJECT_NAME=dotted\n")
    config = json.loads(stack.ok("config", "--format", "json"))
    assert (config["name"], list(config["services"])) == ("dotted", ["other"])


def test_progress_as_json_one_at_a_time(host: Host) -> None:
    """COMPOSE_PROGRESS and COMPOSE_PARALLEL_LIMIT."""
    names = [f"w{number}" for number in range(4)]
    services = "".join(f"  {name}: {{image: host, init: true, command: [sleep, '1000']}}\n" for name in names)
    stack = host.stack(f"services:\n{services}")
    done = stack("up", "-d", env={"COMPOSE_PROGRESS": "json", "COMPOSE_PARALLEL_LIMIT": "1"})
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines()]
    told = [each for each in told if each["id"].startswith("Container")]
    assert len(told) == 4 * len(names)
    for begun, ended in zip(told[::2], told[1::2], strict=True):
        assert (begun["id"], begun["status"], ended["status"]) == (ended["id"], "Working", "Done")


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": "", "COMPOSE_ANSI": "never"}, False),
        ({"NO_COLOR": "1", "COMPOSE_ANSI": "always"}, True),
    ],
    ids=str,
)
def test_colours_on_a_terminal(host: Host, environment: dict[str, str], coloured: bool) -> None:
    terminal = Terminal(host.stack("services: {web: {image: host, imge: x}}"), "config", env=environment)
    assert terminal.end() == 1
    assert (b"\x1b[" in terminal.seen) == coloured


def test_every_variable_that_is_told_of_is_tested() -> None:
    told = set(re.findall(r"`((?:COMPOSE_|DOCKER_|NO_)[A-Z_]+)`", PAGE.read_text()))
    tests = "".join(file.read_text() for file in Path(__file__).parents[1].glob("*/test_*.py"))
    assert told, "the page names variables"
    assert {name for name in told if not re.search(rf'"{name}"\s*[:,]', tests)} == set()
