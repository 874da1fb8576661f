"""Which change is whose matter, and what follows: by tables, after the documentation of Docker Compose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from composer.errors import ComposerError, ImageError
from composer.model.stack import Build, Hook, Mount, Service, Stack, WatchRule
from composer.watch.rules import Rule, Then, compiled, decide
from composer.watch.tree import Change


def stack_of(*rules: WatchRule, **fields: Any) -> Stack:
    return Stack(name="s", services={"web": Service(name="web", image="host", develop=rules, **fields)})


def rules_of(*rules: WatchRule, **fields: Any) -> list[Rule]:
    return compiled(stack_of(*rules, **fields), ["web"])[0]


def sync(path: Path | str, target: str = "/app", action: Any = "sync", **more: Any) -> WatchRule:
    return WatchRule(path=str(path), action=action, target=target, **more)


TAKEN = [
    # ignore, include, path below the rule's own, taken
    ((), (), "a.py", True),
    ((), (), "deep/er/a.py", True),
    (("*.py",), (), "a.py", False),
    (("*.py",), (), "deep/a.py", True),
    (("**/*.py",), (), "deep/a.py", False),
    (("node_modules/",), (), "node_modules/x/y.js", False),
    (("node_modules/",), (), "web/node_modules/x.js", True),
    (("*", "!keep.txt"), (), "other.txt", False),
    (("*", "!keep.txt"), (), "keep.txt", True),
    (("/docs",), (), "docs/a", False),
    ((), ("*.py",), "a.py", True),
    ((), ("*.py",), "a.js", False),
    ((), ("**/*.py",), "deep/a.py", True),
    ((), ("src",), "src/a", True),
    (("src/no",), ("src",), "src/no/a", False),
    ((), (), ".git/HEAD", False),
    ((), (), "sub/.git/index", False),
    ((), (), ".gitignore", True),
    ((), (), "a.py~", False),
    ((), (), ".a.py.swp", False),
    ((), (), "4913", False),
    ((), (), "deep/#a.py#", False),
]


@pytest.mark.parametrize(("ignore", "include", "path", "taken"), TAKEN)
def test_what_a_rule_takes(
    tmp_path: Path, ignore: tuple[str, ...], include: tuple[str, ...], path: str, taken: bool
) -> None:
    (rule,) = rules_of(sync(tmp_path, ignore=ignore, include=include))
    assert rule.takes(f"{tmp_path}/{path}", False) is taken


def test_what_is_elsewhere_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (rule,) = rules_of(sync(tmp_path / "src"))
    assert not rule.takes(f"{tmp_path}/srcs/a", False)
    assert not rule.takes(str(tmp_path), True)
    assert rule.takes(f"{tmp_path}/src", True)


def test_a_folder_of_which_something_may_be_wanted_is_walked(tmp_path: Path) -> None:
    (rule,) = rules_of(sync(tmp_path, ignore=("vendor", "!vendor/own", "cache"), include=("**/*.py",)))
    assert rule.takes(f"{tmp_path}/vendor", True)
    assert not rule.takes(f"{tmp_path}/vendor/other.py", False)
    assert rule.takes(f"{tmp_path}/vendor/own/a.py", False)
    assert not rule.takes(f"{tmp_path}/cache", True)


def test_dockerignore_of_the_build_context_counts_for_every_rule(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / ".dockerignore").write_text("app/dist\n**/*.tmp\n")
    (rule,) = rules_of(sync(tmp_path / "app"), build=Build(context=str(tmp_path)))
    assert rule.takes(f"{tmp_path}/app/a", False)
    assert not rule.takes(f"{tmp_path}/app/dist/a", False)
    assert not rule.takes(f"{tmp_path}/app/x/y.tmp", False)


def test_a_dockerfile_has_its_own_dockerignore(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("one\n")
    (tmp_path / "Dev.dockerignore").write_text("two\n")
    (rule,) = rules_of(sync(tmp_path), build=Build(context=str(tmp_path), dockerfile="Dev"))
    assert rule.takes(f"{tmp_path}/one", False)
    assert not rule.takes(f"{tmp_path}/two", False)


PLACES = [
    # rule's path, target, source, place
    ("src", "/app", "src/a/b", "/app/a/b"),
    ("src", "/app/", "src/a", "/app/a"),
    ("src", "app/../srv", "src/a", "/srv/a"),
    ("f.txt", "/etc/g.txt", "f.txt", "/etc/g.txt"),
    ("f.txt", "/etc/", "f.txt", "/etc/f.txt"),
    ("src", "/../../x", "src/a", "/x/a"),
]


@pytest.mark.parametrize(("path", "target", "source", "place"), PLACES)
def test_where_a_file_belongs(tmp_path: Path, path: str, target: str, source: str, place: str) -> None:
    (rule,) = rules_of(sync(tmp_path / path, target))
    assert rule.place(f"{tmp_path}/{source}") == place


THEN = [
    # action, change, places copied to, what follows at once
    ("sync", Change(), ["/app/a"], set()),
    ("sync", Change(gone=True), ["/app/a"], set()),
    ("sync", Change(directory=True), ["/app/a"], set()),
    ("sync+restart", Change(), ["/app/a"], set()),
    ("sync+exec", Change(), ["/app/a"], set()),
    ("restart", Change(), [], {Then("restart", "web")}),
    ("restart", Change(gone=True), [], {Then("restart", "web")}),
    ("restart", Change(directory=True), [], set()),
    ("rebuild", Change(), [], {Then("rebuild", "web")}),
]


@pytest.mark.parametrize(("action", "change", "copied", "then"), THEN)
def test_what_follows_from_a_change(
    tmp_path: Path, action: str, change: Change, copied: list[str], then: set[Then]
) -> None:
    rules = rules_of(
        sync(tmp_path, action=action, exec=Hook(("true",)) if "exec" in action else None),
        build=Build(context=str(tmp_path)),
    )
    work = decide({f"{tmp_path}/a": change}, rules)
    assert [copy.target for copy in work.copies] == copied
    assert work.then == then


def test_every_rule_that_a_change_is_the_matter_of_acts(tmp_path: Path) -> None:
    rules = rules_of(
        sync(tmp_path, "/one"),
        sync(tmp_path, "/two", "sync+restart", include=("*.toml",)),
        sync(tmp_path / "lock", "", "rebuild"),
        build=Build(context=str(tmp_path)),
    )
    work = decide({f"{tmp_path}/a.toml": Change(), f"{tmp_path}/lock": Change()}, rules)
    assert [copy.target for copy in work.copies] == ["/one/a.toml", "/two/a.toml", "/one/lock"]
    assert work.then == {Then("rebuild", "web")}


def test_a_rebuild_needs_a_build(tmp_path: Path) -> None:
    with pytest.raises(ComposerError, match=r"develop\.watch\[0\]: `rebuild` needs a service with `build`"):
        rules_of(sync(tmp_path, "", "rebuild"))


def test_a_pattern_that_cannot_be_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"develop\.watch\[0\]\.ignore"):
        rules_of(sync(tmp_path, ignore=("[a",)))


def bind(source: Path, target: str, **more: Any) -> Mount:
    return Mount("bind", target, str(source), **more)


def test_what_is_mounted_already_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    fields: dict[str, Any] = {"volumes": (bind(tmp_path, "/app", read_only=True),)}
    rules, warnings = compiled(stack_of(sync(tmp_path / "src", "/app/src"), **fields), ["web"])
    assert rules == []
    assert "by a bind mount: nothing is copied" in warnings[0]
    rules, warnings = compiled(
        stack_of(sync(tmp_path / "src", "/app/src", "sync+restart"), **fields), ["web"]
    )
    assert "only the restart is done" in warnings[0]
    work = decide({f"{tmp_path}/src/a": Change()}, rules)
    assert (work.copies, work.then) == ([], {Then("restart", "web")})


READ_ONLY = [
    ({"read_only": True}, True),
    ({"read_only": True, "volumes": (Mount("tmpfs", "/app"),)}, False),
    ({"read_only": True, "volumes": (Mount("tmpfs", "/application"),)}, True),
    ({"volumes": (Mount("volume", "/app/", "data", read_only=True),)}, True),
    ({"volumes": (Mount("volume", "/app", "data"), Mount("volume", "/", "x", read_only=True))}, False),
    ({}, False),
]


@pytest.mark.parametrize(("fields", "told"), READ_ONLY)
def test_a_target_that_cannot_be_written_is_told(tmp_path: Path, fields: dict[str, Any], told: bool) -> None:
    _, warnings = compiled(stack_of(sync(tmp_path, "/app/src"), **fields), ["web"])
    assert any("is read-only there" in text for text in warnings) is told


def test_a_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    rules, warnings = compiled(stack_of(sync(tmp_path / "later")), ["web"])
    assert len(rules) == 1
    assert "there is no" in warnings[0]
