"""`composer config`: every flag, mistakes as text and JSON, and that what it prints can be read again."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from composer.cli.app import main
from composer.cli.render.complaint import complaints, painter
from composer.errors import Complaint, Place
from composer.model.tree import Source
from tests.serving import Answer, Serving

STACK = """
name: demo
services:
  web:
    image: nginx:${TAG:-1.2}
    command: echo ${A} ${D:+alt} ${WANTED:?must}
    depends_on: [db]
    networks: [front]
    volumes: ["data:/d"]
    models: [llm]
  db:
    image: postgres
    env_file: [v.env]
  app:
    build: ./app
    profiles: [extra]
networks: {front: , unused: }
volumes: {data: , unused: }
models: {llm: {model: ai/small}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack to look at, and an environment that says nothing about it."""
    for name in os.environ:
        if name.startswith("COMPOSE_"):
            monkeypatch.delenv(name)
    for name in ("TAG", "A", "D", "WANTED", "BAR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compose.yaml").write_text(STACK)
    (tmp_path / ".env").write_text("A=file\nWANTED=yes\n")
    (tmp_path / "v.env").write_text("V=1\n")
    return tmp_path


def config(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What `composer config` prints; on standard error when it fails."""
    got = main(["config", *words])
    said = capsys.readouterr()
    assert got == code, said.err
    return said.err if code and not said.out else said.out


def data(text: str) -> Any:
    return Source("", text.encode()).documents[0].data


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--services"], "db\nweb\n"),
        (["--services", "db"], "db\n"),
        (["--services", "app"], "app\n"),
        (["--volumes"], "data\n"),
        (["--networks"], "default\nfront\n"),
        (["--networks", "db"], "default\n"),
        (["--models"], "ai/small\n"),
        (["--images"], "postgres\nnginx:1.2\n"),
        (["--images", "app"], "demo-app\n"),
        (["--profiles"], "extra\n"),
        (["--services", "--format", "json"], '[\n  "db",\n  "web"\n]\n'),
        (["--quiet"], ""),
    ],
)
def test_lists(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert config(capsys, *words) == expected


def test_dependencies_come_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    links = {"a": ["c", "b"], "b": ["d"], "c": ["d"], "d": [], "e": ["a"]}
    (folder / "compose.yaml").write_text(
        json.dumps({"services": {n: {"image": "x", "depends_on": on} for n, on in links.items()}})
    )
    found = config(capsys, "--services").split()
    assert sorted(found) == sorted(links)
    assert all(found.index(other) < found.index(name) for name, on in links.items() for other in on)


def test_the_whole_stack_in_both_formats(capsys: pytest.CaptureFixture[str]) -> None:
    yaml, as_json = data(config(capsys)), json.loads(config(capsys, "--format", "json"))
    assert list(yaml) == ["name", "services", "networks", "volumes", "models"]
    assert yaml["services"]["web"]["command"] == ["echo", "file", "yes"]
    assert yaml["services"]["db"] == {
        "environment": {"V": "1"},
        "image": "postgres",
        "networks": {"default": None},
    }
    assert as_json["services"]["db"]["environment"] == {"V": "1"}
    assert "app" not in yaml["services"]


def test_only_a_service_and_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(data(config(capsys, "db"))["services"]) == ["db"]
    assert list(data(config(capsys, "web"))["services"]) == ["db", "web"]
    assert "there is no service `wbe`" in config(capsys, "wbe", code=1)


def test_what_is_printed_can_be_read_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = config(capsys, "-o", "out.yaml")
    assert first == ""
    printed = (folder / "out.yaml").read_text()
    (folder / "compose.yaml").write_text(printed)
    assert config(capsys) == printed


def test_variables_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    printed = data(config(capsys, "--no-interpolate"))
    assert printed["services"]["web"]["image"] == "nginx:${TAG:-1.2}"
    assert set(printed["services"]) == {"app", "db", "web"}, "profiles are not looked at"
    assert set(printed["networks"]) == {"default", "front", "unused"}
    again = json.loads(config(capsys, "--no-interpolate", "--format", "json"))
    assert again == printed


@pytest.mark.parametrize(
    ("switch", "path", "expected"),
    [
        ("--no-normalize", ["services", "db", "networks"], None),
        ("--no-path-resolution", ["services", "app", "build", "context"], "./app"),
        ("--no-env-resolution", ["services", "db", "environment"], None),
    ],
)
def test_stages_can_be_left_out(
    switch: str, path: list[str], expected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def at(tree: Any) -> Any:
        for key in path:
            tree = (tree or {}).get(key)
        return tree

    assert at(data(config(capsys, switch, "app", "db"))) == expected
    assert at(data(config(capsys, "app", "db"))) != expected


def test_consistency_can_be_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "compose.yaml").write_text("services: {a: {depends_on: [b], image: x}}\n")
    assert "unknown service `b`" in config(capsys, "--quiet", code=1)
    assert list(data(config(capsys, "--no-consistency"))["services"]) == ["a"]


def test_where_each_variable_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANTED", "shell")
    rows = [line.split("  ") for line in config(capsys, "--variables").splitlines()]
    told = {row[0]: (row[-2].strip(), row[-1].strip()) for row in ([c for c in r if c] for r in rows[1:])}
    assert told == {
        "A": ("file", ".env"),
        "D": (" alt".strip(), "not set"),
        "TAG": ("1.2", "default"),
        "WANTED": ("shell", "environment"),
    }
    machine = json.loads(config(capsys, "--variables", "--format", "json"))
    assert machine["TAG"] == {
        "Name": "TAG",
        "DefaultValue": "1.2",
        "PresenceValue": "",
        "Required": False,
        "Value": "1.2",
        "Source": "default",
    }
    assert machine["WANTED"]["Required"] is True
    assert machine["D"]["PresenceValue"] == "alt"


def test_variables_are_told_though_a_required_one_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".env").unlink()
    assert "WANTED" in config(capsys, "--variables")
    assert "the variable WANTED is required: must" in config(capsys, "--services", code=1)


def test_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    lines = config(capsys, "--environment").splitlines()
    assert "A=file" in lines
    assert "COMPOSE_PROJECT_NAME=demo" in lines
    assert lines == sorted(lines, key=lambda line: line.partition("=")[0])


def test_a_hash_changes_with_its_service_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = dict(line.split() for line in config(capsys, "--hash", "*").splitlines())
    (folder / ".env").write_text("A=other\nWANTED=yes\n")
    after = dict(line.split() for line in config(capsys, "--hash", "db,web").splitlines())
    assert list(before) == list(after) == ["db", "web"]
    assert before["db"] == after["db"]
    assert before["web"] != after["web"]
    assert "no such service: nosuch" in config(capsys, "--hash", "nosuch", code=1)


def test_one_view_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--services and --volumes exclude each other" in config(capsys, "--services", "--volumes", code=2)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"services: {a: {image: x}}")))
    assert main(["-f", "-", "-p", "p", "config", "--services"]) == 0
    assert capsys.readouterr().out == "a\n"


MANIFEST = b'{"schemaVersion": 2}'


@pytest.fixture
def hub() -> Iterator[str]:
    """A registry that knows one manifest under any name."""

    def answer(_: str, path: str, __: dict[str, str]) -> Answer:
        known = "/manifests/" in path and not path.endswith("/missing")
        kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        return 200 if known else 404, kind, MANIFEST

    with Serving(answer) as server:
        yield server.host


def test_images_pinned_to_digests(hub: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
    other = f"sha256:{'a' * 64}"
    images = {"a": f"{hub}/app:1", "b": f"{hub}/app", "c": f"{hub}/app:2@{other}", "d": "host"}
    (folder / "compose.yaml").write_text(
        json.dumps({"services": {name: {"image": image, "tty": True} for name, image in images.items()}})
    )
    expected = {
        "a": f"{hub}/app:1@{digest}",
        "b": f"{hub}/app:latest@{digest}",
        "c": f"{hub}/app@{other}",
        "d": "host",
    }
    whole = data(config(capsys, "--resolve-image-digests"))
    assert {name: one["image"] for name, one in whole["services"].items()} == expected
    assert all(one["tty"] for one in whole["services"].values())
    lock = data(config(capsys, "--lock-image-digests"))
    assert lock == {"services": {name: {"image": image} for name, image in expected.items()}}


def test_an_image_that_no_registry_has(hub: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "compose.yaml").write_text(json.dumps({"services": {"a": {"image": f"{hub}/app:missing"}}}))
    assert "has no such image" in config(capsys, "--resolve-image-digests", code=1)


WRONG = """services:
  web:
    image: nginx
    port: ["80"]
    tty: 5
  db:
    imgae: postgres
"""


def test_mistakes_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "compose.yaml").write_text(WRONG)
    assert config(capsys, code=1) == (
        "compose.yaml:4:5: error: services.web.port: is not a known key\n"
        '  4 |     port: ["80"]\n'
        "    |     ^^^^\n"
        "  hint: did you mean `ports`?\n"
        "compose.yaml:5:5: error: services.web.tty: must be true or false, not the number 5\n"
        "  5 |     tty: 5\n"
        "    |     ^^^\n"
        "compose.yaml:7:5: error: services.db.imgae: is not a known key\n"
        "  7 |     imgae: postgres\n"
        "    |     ^^^^^\n"
        "  hint: did you mean `image`?\n"
    )


MANY = """services:
  web:
    image: nginx
    port: ["80"]
    ports: ["80:99999"]
    networks: [fornt]
    depends_on: [dbb]
    env_file: nothing.env
    mem_limit: 5 potatoes
  db:
    image: x
    command: echo ${X!}
    healthcheck: {interval: 5}
  empty:
  c: {image: x, depends_on: [d]}
  d: {image: x, depends_on: [c, empty]}
networks: {front: , other: 5}
"""


def test_mistakes_of_every_kind_come_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shape, text, references, files, cycles: one mistake hides no other, and brings no false ones along."""
    (folder / "compose.yaml").write_text(MANY)
    found = json.loads(config(capsys, "-q", "--format", "json", code=1))
    assert [one["line"] for one in found] == [4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 17]


def test_mistakes_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "compose.yaml").write_text(WRONG)
    found = json.loads(config(capsys, "--quiet", "--format", "json", code=1))
    assert found[0] == {
        "severity": "error",
        "file": str(folder / "compose.yaml"),
        "line": 4,
        "column": 5,
        "path": ["services", "web", "port"],
        "message": "is not a known key",
        "hint": "did you mean `ports`?",
    }
    assert [one["line"] for one in found] == [4, 5, 7]
    assert json.loads(config(capsys, "--format", "json", code=1)) == found, "on standard error"


def test_warnings_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "compose.yaml").write_text("services: {a: {image: 'x$BAR'}}\n")
    assert [one["severity"] for one in json.loads(config(capsys, "-q", "--format", "json"))] == ["warning"]
    (folder / "compose.yaml").write_text("services: {a: {image: x}}\n")
    assert json.loads(config(capsys, "-q", "--format", "json")) == []


def painted(item: Complaint, line: str, *, colour: bool = False) -> str:
    return complaints([item], painter(colour), lambda file, number: line)


def test_a_complaint_has_a_caret_below_the_word() -> None:
    item = Complaint("is odd", Place("f.yaml", 3, 5))
    assert painted(item, "ab: name: x").splitlines()[1:] == ["  3 | ab: name: x", "    |     ^^^^"]
    assert painted(item, "\tab \tname").splitlines()[2] == "    | \t   ^"
    assert painted(item, "").splitlines()[2] == "    | ^"
    assert painted(item, "日本: name").splitlines()[2] == "    |       ^^^^"


def test_a_long_line_is_cut_around_the_place() -> None:
    item = Complaint("is odd", Place("f.yaml", 1, 5001))
    line, caret = painted(item, "x" * 5000 + "HERE" + "y " * 5000).splitlines()[1:]
    assert len(line) < 150
    assert line[caret.index("^") :].startswith("HERE")


def test_a_hostile_file_cannot_steer_the_terminal() -> None:
    item = Complaint("`\x1b[2J` is not good", Place("f\x1b]0;x\x07.yaml", 1, 1), ("a\x1b[31m",), "\x9b1m")
    text = painted(item, "k: \x1b[2Jv\u202e")
    assert not any((ord(char) < 32 and char != "\n") or char in "\x9b\u202e" for char in text)
    assert "\x1b[31merror:" in painted(item, "k", colour=True)
