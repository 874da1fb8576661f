"""Health as a small state machine: when the next probe is due, and what its result makes of the state.

Time is passed in. The rules are Docker's: `starting` until the first success; failures within `start_period`
do not count; `retries` failures in a row make it `unhealthy`, one success `healthy`. While starting within
the start period, `start_interval` is the distance between probes.
https://docs.docker.com/reference/dockerfile/#healthcheck
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from composer.model.stack import SECOND, Healthcheck, Probe
from composer.value import Value

Status = Literal["starting", "healthy", "unhealthy"]

KEPT = 5
OUTPUT_LIMIT = 4096
"""Bytes of a probe's output that are kept, as Docker keeps them."""


class Check(Value):
    """An effective healthcheck. `test` starts with CMD (an argv follows) or CMD-SHELL (text). Nanoseconds."""

    test: tuple[str, ...]
    interval: int = 30 * SECOND
    timeout: int = 30 * SECOND
    retries: int = 3
    start_period: int = 0
    start_interval: int = 5 * SECOND
    probe: Probe | None = None
    """A look from the outside instead of a `test` inside."""


IMAGE_WORDS: Mapping[str, str] = {
    "interval": "Interval",
    "timeout": "Timeout",
    "retries": "Retries",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
}


def effective(own: Healthcheck | None, image: Mapping[str, Any]) -> Check | None:
    """The service's healthcheck over the image's, field by field; None when there is none or it is off.

    `image` is the `config` of an OCI image configuration; its Shell runs a CMD-SHELL. A zero means "not
    said", as in Docker.
    """
    theirs = image.get("Healthcheck") or {}
    probe = own.probe if own else None
    test = () if probe else tuple((own and own.test) or theirs.get("Test") or ())
    if not (probe or (test and test[0] != "NONE")) or (own and own.disable):
        return None
    said = {field: (own and getattr(own, field)) or theirs.get(word) for field, word in IMAGE_WORDS.items()}
    if test[:1] == ("CMD-SHELL",) and image.get("Shell"):
        test = ("CMD", *image["Shell"], *test[1:])
    return Check(test, probe=probe, **{field: value for field, value in said.items() if value})


class Result(Value):
    """One probe. `exit_code` is -1 when it took too long, as in Docker."""

    started_at: int
    finished_at: int
    exit_code: int
    output: str = ""


class Health(Value):
    """`began` is when the container's process was started: the start period counts from there."""

    began: int = 0
    status: Status = "starting"
    streak: int = 0
    """Failures in a row that count."""
    results: tuple[Result, ...] = ()
    """The last five, oldest first."""
    turned: int = 0
    """When `status` became what it is."""


def next_probe(check: Check, health: Health) -> int:
    """When the next probe is due: its interval after the last one ended, or after the start."""
    last = health.results[-1].finished_at if health.results else health.began
    young = health.status == "starting" and last < health.began + check.start_period
    return last + (min(check.start_interval, check.interval) if young else check.interval)


def deadline(check: Check, started_at: int) -> int:
    """When a probe that was started then has taken too long. 0 in the check means without limit."""
    return started_at + check.timeout if check.timeout else 2**63 - 1


def after(check: Check, health: Health, result: Result) -> Health:
    """The state once a probe has ended."""
    kept = result.replace(output=result.output[:OUTPUT_LIMIT])
    results = (*health.results, kept)[-KEPT:]
    if result.exit_code == 0:
        turned = health.turned if health.status == "healthy" else result.finished_at
        return health.replace(status="healthy", streak=0, results=results, turned=turned)
    if health.status == "starting" and result.started_at < health.began + check.start_period:
        return health.replace(results=results)
    streak = health.streak + 1
    if streak < check.retries or health.status == "unhealthy":
        return health.replace(streak=streak, results=results)
    return health.replace(status="unhealthy", streak=streak, results=results, turned=result.finished_at)
