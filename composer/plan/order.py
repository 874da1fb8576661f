"""Dependencies between services: their order, circles, and who is drawn in. Pure graph questions only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from composer.errors import Complaint, StackFileError
from composer.model.stack import Condition, Service

Services = Mapping[str, Service]

STRENGTH: tuple[Condition, ...] = ("service_started", "service_healthy", "service_completed_successfully")


def ordered(services: Services) -> tuple[str, ...]:
    """All services, dependencies first, otherwise by name. Raises StackFileError on a circle."""
    done: dict[str, None] = {}
    for name in sorted(services):
        _visit(services, name, done)
    return tuple(done)


def _visit(services: Services, start: str, done: dict[str, None]) -> None:
    """Depth first without recursion, so that a chain of any length will do."""
    if start in done:
        return
    path = [start]
    todo = [iter(sorted(services[start].depends_on))]
    while path:
        for name in todo[-1]:
            if name in path:
                circle = " → ".join([*path[path.index(name) :], name])
                raise StackFileError(
                    [
                        Complaint(
                            f"services depend on each other in a circle: {circle}", path=("services", name)
                        )
                    ]
                )
            if name in services and name not in done:
                path.append(name)
                todo.append(iter(sorted(services[name].depends_on)))
                break
        else:
            done[path.pop()] = None
            todo.pop()


def dependents(services: Services) -> dict[str, tuple[str, ...]]:
    """Per service, the services that depend on it directly."""
    found: dict[str, list[str]] = {name: [] for name in services}
    for name in sorted(services):
        for dependency in services[name].depends_on:
            if dependency in found:
                found[dependency].append(name)
    return {name: tuple(names) for name, names in found.items()}


def awaited(services: Services) -> dict[str, str]:
    """Per service that somebody depends on, the strongest condition asked of it."""
    found: dict[str, str] = {}
    for service in services.values():
        for name, dependency in service.depends_on.items():
            before = found.get(name, STRENGTH[0])
            found[name] = max(before, dependency.condition, key=STRENGTH.index)
    return found


def with_dependencies(services: Services, names: Iterable[str]) -> frozenset[str]:
    """The named services and everything they need, as far as it exists."""
    return _spread(names, lambda name: [d for d in services[name].depends_on if d in services])


def with_dependents(
    services: Services,
    direct: Mapping[str, tuple[str, ...]],
    names: Iterable[str],
    *,
    restarted: bool = False,
) -> frozenset[str]:
    """The named services and all that need them; with `restarted` only where `restart: true` says so."""

    def onward(name: str) -> list[str]:
        return [d for d in direct[name] if not restarted or services[d].depends_on[name].restart]

    return _spread(names, onward)


def _spread(names: Iterable[str], onward: Callable[[str], Iterable[str]]) -> frozenset[str]:
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(onward(name))
    return frozenset(found)
