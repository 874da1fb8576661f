"""Whether containers are ready for who waits for them, in the words of Docker Compose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from composer.plan.step import Blocked
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core

Tell = Callable[[dict[str, Any]], None]
Readiness = Literal["ready", "failed", "pending"]
TAKES_TIME = ("service_healthy", "service_completed_successfully")
"""Conditions of `depends_on` that a container meets some time after its start."""


class Awaited:
    """The containers whose health or end a wish waits for now, as it goes on."""

    def __init__(self, core: Core, tell: Tell) -> None:
        self.core, self.tell = core, tell
        self.names: set[str] = set()

    def look(self, blocked: Sequence[Blocked]) -> None:
        """Tell what is waited for since the last look, and how that is now which is waited for no more."""
        lives = self.core.world.containers
        names = {live.name for entry in blocked if not entry.final for live in self._of(entry.service)}
        for name in sorted(names - self.names):
            self.tell(state(lives[name], "pending"))
        for name in sorted(self.names - names):
            if name in lives:
                self.tell(state(lives[name], readiness(lives[name])))
        self.names = names

    def _of(self, service: str) -> Iterator[Live]:
        """Running dependencies that are not there yet."""
        services = self.core.stack.services
        for name, dependency in services[service].depends_on.items() if service in services else ():
            for live in self.core.world.of_service(name) if dependency.condition in TAKES_TIME else ():
                healthy = dependency.condition == "service_healthy" and readiness(live) == "ready"
                if live.plan.alive and not healthy:
                    yield live


def readiness(live: Live) -> Readiness:
    """Whether what `--wait` waits for has come. A one-shot that ended with 0 has done its work."""
    plan = live.plan
    if plan.alive:
        if plan.health is None or plan.health.status == "healthy":
            return "ready"
        return "failed" if plan.health.status == "unhealthy" else "pending"
    if plan.waiting:
        return "ready"
    if plan.state == "exited" and plan.restart.condition in ("no", "on-failure") and plan.exit_code == 0:
        return "ready"
    if plan.restart.condition in ("always", "unless-stopped") and not plan.stopped:
        return "pending"
    return "failed" if plan.state in ("exited", "dead") else "pending"


def state(live: Live, found: Readiness) -> dict[str, Any]:
    """Its line in the progress display."""
    healthy = live.plan.health is not None and live.plan.alive
    words = {"pending": "Waiting", "failed": "Error", "ready": "Healthy" if healthy else "Started"}
    if found == "ready" and not live.plan.alive:
        words["ready"] = "Waiting for a connection" if live.plan.waiting else "Exited"
    mark = {"pending": "working", "failed": "error", "ready": "done"}[found]
    return {"id": f"Container {live.name}", "text": words[found], "state": mark}


def why_not(live: Live) -> str:
    plan = live.plan
    if plan.alive and plan.health is not None:
        last = plan.health.results[-1].output.strip() if plan.health.results else ""
        return "is unhealthy" + (f": {last.splitlines()[-1]}" if last else "")
    return f"exited ({plan.exit_code})" + (f": {live.reason}" if live.reason else "")
