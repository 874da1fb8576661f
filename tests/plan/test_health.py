"""The health state machine, and which healthcheck is in force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.model.stack import SECOND, Healthcheck
from composer.plan.health import (
    KEPT,
    OUTPUT_LIMIT,
    Check,
    Health,
    Result,
    after,
    deadline,
    effective,
    next_probe,
)

CHECK = Check(("CMD", "true"), interval=10, timeout=3, retries=2, start_period=25, start_interval=4)


def run(check: Check, *codes: int, health: Health | None = None) -> tuple[Health, list[int]]:
    """Probe when it is due, each probe ending at once. The last state, and when probes were made."""
    health, times = health or Health(), []
    for code in codes:
        moment = next_probe(check, health)
        times.append(moment)
        health = after(check, health, Result(moment, moment, code))
    return health, times


def test_a_success_makes_healthy_and_ends_the_start_period() -> None:
    health, times = run(CHECK, 1, 0, 1, 1)
    assert times == [4, 8, 18, 28]
    assert health.status == "unhealthy"


def test_failures_within_the_start_period_do_not_count() -> None:
    health, times = run(CHECK, *[1] * 6)
    assert times == [4, 8, 12, 16, 20, 24]
    assert (health.status, health.streak) == ("starting", 0)
    health, times = run(CHECK, *[1] * 9)
    assert times[6:] == [28, 38, 48]
    assert health.status == "unhealthy"


@pytest.mark.parametrize(
    ("codes", "status", "streak"),
    [
        ((0,), "healthy", 0),
        ((0, 1), "healthy", 1),
        ((0, 1, 1), "unhealthy", 2),
        ((0, 1, 0, 1), "healthy", 1),
        ((0, 1, 1, 0), "healthy", 0),
        ((0, -1, -1), "unhealthy", 2),
    ],
)
def test_streaks(codes: tuple[int, ...], status: str, streak: int) -> None:
    health, _ = run(CHECK, *codes)
    assert (health.status, health.streak) == (status, streak)


def test_without_a_start_period_the_first_probe_comes_after_an_interval() -> None:
    check = CHECK.replace(start_period=0)
    assert next_probe(check, Health(began=100)) == 110


def test_a_long_start_interval_never_slows_probing() -> None:
    assert next_probe(CHECK.replace(start_interval=99), Health()) == 10


def test_the_last_results_are_kept_and_bounded() -> None:
    health, _ = run(CHECK, *range(KEPT + 3))
    assert [result.exit_code for result in health.results] == [3, 4, 5, 6, 7]
    long = after(CHECK, Health(), Result(1, 2, 1, "x" * (OUTPUT_LIMIT + 1)))
    assert len(long.results[0].output) == OUTPUT_LIMIT


def test_deadlines() -> None:
    assert deadline(CHECK, 100) == 103
    assert deadline(CHECK.replace(timeout=0), 100) > 2**62


@pytest.mark.parametrize(
    ("own", "image", "expected"),
    [
        (None, {}, None),
        (Healthcheck(), {}, None),
        (Healthcheck(test=("NONE",)), {"Test": ["CMD", "x"]}, None),
        (Healthcheck(disable=True), {"Test": ["CMD", "x"]}, None),
        (None, {"Test": ["NONE"]}, None),
        (Healthcheck(test=("CMD", "x")), {}, Check(("CMD", "x"))),
        (None, {"Test": ["CMD", "x"], "Interval": 7}, Check(("CMD", "x"), interval=7)),
        (
            Healthcheck(interval=5, retries=0),
            {"Test": ["CMD-SHELL", "x"], "Interval": 7, "Retries": 9},
            Check(("CMD-SHELL", "x"), interval=5, retries=9),
        ),
        (
            Healthcheck(test=("CMD", "y"), timeout=SECOND),
            {"Test": ["CMD", "x"]},
            Check(("CMD", "y"), timeout=SECOND),
        ),
    ],
)
def test_the_effective_check(own: Healthcheck | None, image: dict[str, Any], expected: Check | None) -> None:
    assert effective(own, {"Healthcheck": image}) == expected


def test_the_images_shell_runs_shell_checks() -> None:
    own = Healthcheck(test=("CMD-SHELL", "a b"))
    check = effective(own, {"Shell": ["/bin/bash", "-ec"]})
    assert check is not None
    assert check.test == ("CMD", "/bin/bash", "-ec", "a b")


@given(
    st.lists(st.sampled_from([0, 1, -1]), max_size=30),
    st.integers(1, 5),
    st.integers(0, 200),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_whatever_happens(codes: list[int], retries: int, period: int, interval: int, start: int) -> None:
    check = Check(("CMD",), interval=interval, retries=retries, start_period=period, start_interval=start)
    health, times = run(check, *codes)
    assert times == sorted(set(times))
    assert (health.status == "healthy") <= (0 in codes)
    assert (health.status == "unhealthy") == (health.streak >= retries)
    if codes and codes[-1] == 0:
        assert health.status == "healthy"
