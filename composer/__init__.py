"""composer turns a Compose stack file into running containers, without a daemon.

    from composer import Stack

    with Stack("compose.yaml") as stack:
        print(stack["web"].url(80))

What is named here is loaded when it is first used: a command that does not use it does not pay for it.
"""

TYPE_CHECKING = False  # what type checkers take for true; importing typing would cost each command its time
if TYPE_CHECKING:
    from composer.api.aio import AsyncService as AsyncService
    from composer.api.aio import AsyncStack as AsyncStack
    from composer.api.container import Container as Container
    from composer.api.container import Reached as Reached
    from composer.api.process import ExecError as ExecError
    from composer.api.process import ExecResult as ExecResult
    from composer.api.service import Service as Service
    from composer.api.stack import Stack as Stack

__version__ = "0.1.0"

_HOMES = {
    "AsyncService": "aio",
    "AsyncStack": "aio",
    "Container": "container",
    "ExecError": "process",
    "ExecResult": "process",
    "Reached": "container",
    "Service": "service",
    "Stack": "stack",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'composer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"composer.api.{_HOMES[name]}"), name)
