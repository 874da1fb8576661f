"""Restart policies: whether a container that ended is started again, and when. Time is passed in and out.

Docker's rules (moby `restartmanager`): the first delay is 100 ms, each next one is twice the last, up to a
minute, and a run of ten seconds sets it back. `on-failure:n` counts every restart since the container was
begun. With deploy's restart_policy the delay is fixed, and `window` says how long a run must last for its
attempt not to count.
"""

from __future__ import annotations

from composer.model.stack import SECOND, Service
from composer.plan.observed import Container
from composer.value import Value

FIRST_DELAY = SECOND // 10
LONGEST_DELAY = 60 * SECOND
LONG_RUN = 10 * SECOND


class Restart(Value):
    """A restart that is due at `at`; the rest is to be recorded when it is done."""

    at: int
    restarts: int
    tries: int
    backoff: int


def next_restart(container: Container) -> Restart | None:
    """The restart that follows the end of a container's last run, None when its policy gives none."""
    policy = container.restart
    ran = max(0, container.finished_at - container.started_at)
    if container.again and container.state == "exited":
        at = container.finished_at + (container.backoff if ran < LONG_RUN else 0)
        return Restart(at, container.restarts + 1, container.tries + 1, _backoff(container, ran))
    if container.state != "exited" or container.stopped or container.oneoff or policy.condition == "no":
        return None
    if policy.condition == "on-failure" and container.exit_code == 0:
        return None
    tries = 0 if policy.window is not None and ran >= policy.window else container.tries
    if policy.max_attempts is not None and tries >= policy.max_attempts:
        return None
    return Restart(
        at=container.finished_at + (policy.delay if policy.delay is not None else _backoff(container, ran)),
        restarts=container.restarts + 1,
        tries=tries + 1,
        backoff=_backoff(container, ran),
    )


def cured_by_restart(service: Service | None, container: Container) -> bool:
    """Whether a container is unhealthy, its service wants such ones restarted, and the budget allows it."""
    if service is None or container.oneoff or container.health is None or container.stopped:
        return False
    if container.health.status != "unhealthy":
        return False
    budget = service.restart_unhealthy
    return budget is not None and (budget.attempts is None or tries_of(service, container) < budget.attempts)


def tries_of(service: Service, container: Container) -> int:
    """The restarts that still count against a budget for unhealthy ones."""
    budget, health = service.restart_unhealthy, container.health
    ran = health.turned - container.started_at if health else 0
    return 0 if budget and budget.window is not None and ran >= budget.window else container.tries


def _backoff(container: Container, ran: int) -> int:
    if not container.backoff or ran >= LONG_RUN:
        return FIRST_DELAY
    return min(2 * container.backoff, LONGEST_DELAY)


def outlives_reboot(container: Container) -> bool:
    """Whether a container is started again when its host comes back.

    As Docker does at the start of its engine: `always` even if it was stopped; `unless-stopped`, and
    `on-failure` after a failure, unless somebody stopped it. A container that the end of the host took with
    it has failed.
    """
    condition = container.restart.condition
    if container.oneoff or condition == "no" or not container.begun_at:
        return False
    if condition == "always":
        return True
    return not container.stopped and (condition == "unless-stopped" or container.exit_code != 0)
