"""The stacks of one pytest run: brought up when a test first asks, shared within a scope, taken down again.

Each is a copy of its own, with a name that no other has, so workers of pytest-xdist and runs side by side
never meet. All of them belong to this process: when it ends in whatever way, they go down with their volumes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from composer.api.project import FILE_NAMES
from composer.api.stack import Stack
from composer.api.stale import sweep
from composer.errors import ComposerError
from composer.testing.plugin import SCOPES, STACKS
from composer.testing.story import words

FRESH = "fresh"
"""The name of the snapshot that `reset` goes back to."""
UP = ("services", "timeout", "scale", "build", "pull")
"""Arguments of a mark that are about `up`; `scope` and `reset` are the fixture's; the rest is Stack's."""
NODES: Mapping[str, type[pytest.Collector]] = {
    "class": pytest.Class,
    "module": pytest.Module,
    "package": pytest.Package,
    "session": pytest.Session,
}


class Stacks:
    """What is up. `shared` is by scope's node and arguments."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.shared: dict[tuple[str, str], Stack] = {}
        self.used: dict[str, list[Stack]] = {}
        """By test, those that a failure of it is to tell about."""
        self.new: list[Stack] = []
        """Brought up since the last test that asked for one."""
        self.pidfd = os.pidfd_open(os.getpid())
        sweep()

    @classmethod
    def of(cls, config: pytest.Config) -> Stacks:
        found = config.stash.get(STACKS, None)
        if found is None:
            found = config.stash[STACKS] = cls(config)
        return found

    def close(self) -> None:
        os.close(self.pidfd)

    def bring_up(
        self, files: Sequence[Any], given: Mapping[str, Any], end: Callable[[Callable[[], None]], object]
    ) -> Stack:
        """A new stack. `end` is told what to do when nobody needs it any more."""
        option = self.config.getoption
        keep = option("--composer-keep")
        told = {"isolated": True, **given}
        told["offline"] = told.get("offline") or option("--composer-offline")
        told["internal"] = told.get("internal") or option("--composer-internal")
        up = {name: told.pop(name) for name in UP if name in told}
        services = up.pop("services", ())
        up.setdefault("timeout", float(self.config.getini("composer_timeout")))
        stack = Stack(*files, **told)
        name = stack.name  # What is wrong with its files is found now.
        if keep:
            end(lambda: print(f"\nkept: composer -p {name} ps"))
        else:
            # Before it is there: what was begun must end, too.
            end(lambda: stack.down(volumes=True, timeout=0))
        self.new.append(stack)
        stack.up(*services, wait=True, owner=None if keep else self.pidfd, **up)
        return stack


@contextmanager
def in_words() -> Iterator[None]:
    """What is wrong with a stack is told without our own frames."""
    try:
        yield
    except ComposerError as error:
        raise pytest.fail.Exception(words(error), pytrace=False) from None


@in_words()
def marked(request: pytest.FixtureRequest) -> Stack:
    """The stack of the test's mark."""
    stacks = Stacks.of(request.config)
    mark = request.node.get_closest_marker("composer")
    given = dict(mark.kwargs) if mark else {}
    scope = given.pop("scope", request.config.getini("composer_scope"))
    if scope not in SCOPES:
        raise pytest.UsageError(f"{scope!r} is no scope: {', '.join(SCOPES)}")
    files = list(mark.args) if mark else []
    reset = bool(given.pop("reset", False))
    if not files and "yaml" not in given:
        files = request.config.getini("composer_file") or [nearest(request)]
    stack = shared(stacks, request, files, given, scope)
    if reset and FRESH in stack.snapshots:
        stack.restore(FRESH)
    elif reset:
        stack.snapshot(FRESH)
        stack.start()  # what ran was stopped for it, and is healthy again when this returns
    return stack


def shared(
    stacks: Stacks, request: pytest.FixtureRequest, files: Sequence[Any], given: dict[str, Any], scope: str
) -> Stack:
    """One stack for all tests of a scope that say the same; new for the first of them."""
    given.setdefault("directory", request.path.parent if "yaml" in given and not files else None)
    files = [request.path.parent / file for file in files]
    stacks.new.clear()
    node = request.node if scope == "function" else request.node.getparent(NODES[scope]) or request.session
    key = (node.nodeid, f"{scope} {files} {given}")
    stack = stacks.shared.get(key)
    if stack is None:
        node.addfinalizer(lambda: stacks.shared.pop(key, None) and None)
        stack = stacks.bring_up(files, given, node.addfinalizer)
        stacks.shared[key] = stack
    stacks.used.setdefault(request.node.nodeid, []).append(stack)
    return stack


def factory(request: pytest.FixtureRequest) -> Callable[..., Stack]:
    """What the fixture `composer_stack` gives: stacks that end with the test."""
    stacks = Stacks.of(request.config)
    stacks.new.clear()

    def make(*files: str | os.PathLike[str], **given: Any) -> Stack:
        given.setdefault("directory", request.path.parent if "yaml" in given and not files else None)
        paths = [request.path.parent / file for file in files]
        stack = stacks.bring_up(paths, given, request.addfinalizer)
        stacks.used.setdefault(request.node.nodeid, []).append(stack)
        return stack

    return make


def stack_fixture(
    *files: str | os.PathLike[str], scope: str = "session", name: str | None = None, **given: Any
) -> Any:
    """A fixture of any scope, for a conftest.py: `shop = stack_fixture("compose.yaml", scope="session")`.

    Arguments are those of the mark `composer`; relative paths begin at the file of the fixture.
    """
    import inspect

    caller = inspect.stack()[1].filename
    folder = Path(caller).parent

    def fixture(request: pytest.FixtureRequest) -> Iterator[Stack]:
        stacks = Stacks.of(request.config)
        stacks.new.clear()
        given.setdefault("directory", folder if "yaml" in given and not files else None)
        ends: list[Callable[[], None]] = []
        try:
            with in_words():
                stack = stacks.bring_up([folder / file for file in files], given, ends.append)
            yield stack
        finally:
            for end in ends:
                end()

    return pytest.fixture(scope=scope, name=name)(fixture)  # type: ignore[call-overload]


def nearest(request: pytest.FixtureRequest) -> Path:
    """The stack file beside the test, or in a folder above, up to the root of the tests."""
    root = request.config.rootpath
    for folder in (request.path.parent, *request.path.parent.parents):
        for name in FILE_NAMES:
            if (folder / name).exists():
                return folder / name
        if folder == root:
            break
    raise ComposerError(
        f"there is no stack file beside {request.path.name} or above",
        hint="name one: @pytest.mark.composer('compose.yaml'), or composer_file in the ini file",
    )
