"""The pytest plugin: options, fixtures, and what a failed test says about its stacks.

Loaded by every pytest run of an environment that has composer: nothing of ours may be imported at the top.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from composer.api.stack import Stack
    from composer.testing.stacks import Stacks

SCOPES = ("function", "class", "module", "package", "session")
USERS = {"composer.testing.stacks", "composer.testing.network"}
"""Modules without which no test has a container."""
STACKS: pytest.StashKey[Stacks] = pytest.StashKey()
"""What was brought up in this run; not there as long as no test asked for a stack."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("composer", "stacks of containers (composer)")
    group.addoption(
        "--composer-keep",
        action="store_true",
        help="leave stacks up after the tests, to look at them; `composer -p NAME down -v` takes one down",
    )
    group.addoption("--composer-offline", action="store_true", help="never ask a registry for an image")
    group.addoption(
        "--composer-internal", action="store_true", help="no network of a stack leads out of this host"
    )
    parser.addini("composer_file", "stack files for the `stack` fixture", type="paths", default=[])
    parser.addini("composer_scope", f"how long its stack lives: {', '.join(SCOPES)}", default="function")
    parser.addini("composer_timeout", "seconds until everything must be healthy", default="60")
    parser.addini("composer_log_lines", "lines of each container that a failed test shows", default="20")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "composer(*files, yaml=None, scope='function', reset=False, services=(), timeout=60, **stack): "
        "the stack of the `stack` fixture; further arguments are those of composer.Stack",
    )


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> Stack:
    """The stack that the mark `composer`, the ini file, or the nearest stack file says: up and healthy."""
    from composer.testing.stacks import marked

    return marked(request)


@pytest.fixture
def composer_stack(request: pytest.FixtureRequest) -> Callable[..., Stack]:
    """Bring up stacks inside of a test: `composer_stack("compose.yaml")`, `composer_stack(yaml=...)`."""
    from composer.testing.stacks import factory

    return factory(request)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells how its stacks are."""
    report = yield
    if report.failed and not USERS.isdisjoint(sys.modules):
        from composer.testing.story import sections

        report.sections += sections(item)
    return report


def pytest_unconfigure(config: pytest.Config) -> None:
    stacks = config.stash.get(STACKS, None)
    if stacks is not None:
        stacks.close()
