"""Stacks and single containers for tests: a pytest plugin, and helpers as testcontainers has them.

Uses `composer.api` and nothing below it. What is named here is loaded when it is first used; pytest loads
only `plugin`, which loads nothing before a test asks for a stack.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from composer.testing.compose import DockerCompose as DockerCompose
    from composer.testing.container import Container as Container
    from composer.testing.network import Network as Network
    from composer.testing.stacks import stack_fixture as stack_fixture
    from composer.testing.waiting import CompositeWaitStrategy as CompositeWaitStrategy
    from composer.testing.waiting import ExecWaitStrategy as ExecWaitStrategy
    from composer.testing.waiting import HealthcheckWaitStrategy as HealthcheckWaitStrategy
    from composer.testing.waiting import HttpWaitStrategy as HttpWaitStrategy
    from composer.testing.waiting import LogMessageWaitStrategy as LogMessageWaitStrategy
    from composer.testing.waiting import PortWaitStrategy as PortWaitStrategy
    from composer.testing.waiting import wait_container_is_ready as wait_container_is_ready
    from composer.testing.waiting import wait_for_logs as wait_for_logs

_HOMES = {
    "CompositeWaitStrategy": "waiting",
    "Container": "container",
    "DockerCompose": "compose",
    "ExecWaitStrategy": "waiting",
    "HealthcheckWaitStrategy": "waiting",
    "HttpWaitStrategy": "waiting",
    "LogMessageWaitStrategy": "waiting",
    "Network": "network",
    "PortWaitStrategy": "waiting",
    "stack_fixture": "stacks",
    "wait_container_is_ready": "waiting",
    "wait_for_logs": "waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'composer.testing' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"composer.testing.{_HOMES[name]}"), name)
