"""Restart policies: who is restarted, when, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.model.stack import SECOND, RestartPolicy
from composer.plan.observed import Container, Slot
from composer.plan.restart import FIRST_DELAY, LONGEST_DELAY, next_restart


def ended(policy: RestartPolicy, **fields: Any) -> Container:
    return Container(Slot("web", 1), "s-web-1", restart=policy, **{"state": "exited", **fields})


@pytest.mark.parametrize(
    ("condition", "fields", "restarts"),
    [
        ("no", {"exit_code": 1}, False),
        ("always", {"exit_code": 0}, True),
        ("always", {"exit_code": 1}, True),
        ("always", {"stopped": True}, False),
        ("always", {"oneoff": True}, False),
        ("always", {"state": "running"}, False),
        ("always", {"state": "created"}, False),
        ("always", {"state": "dead"}, False),
        ("unless-stopped", {"exit_code": 0}, True),
        ("unless-stopped", {"stopped": True}, False),
        ("on-failure", {"exit_code": 0}, False),
        ("on-failure", {"exit_code": 1}, True),
        ("no", {"again": True}, True),
        ("no", {"again": True, "state": "running"}, False),
    ],
)
def test_who_is_restarted(condition: Any, fields: dict[str, Any], restarts: bool) -> None:
    assert (next_restart(ended(RestartPolicy(condition), **fields)) is not None) is restarts


def test_the_delay_doubles_up_to_a_minute() -> None:
    one, delays = ended(RestartPolicy("always")), []
    for _ in range(12):
        due = next_restart(one)
        assert due is not None
        delays.append(due.at / SECOND)
        one = one.replace(backoff=due.backoff, restarts=due.restarts)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]
    assert one.restarts == 12


@pytest.mark.parametrize(("ran", "delay"), [(10 * SECOND, FIRST_DELAY), (10 * SECOND - 1, 16 * FIRST_DELAY)])
def test_ten_seconds_set_the_delay_back(ran: int, delay: int) -> None:
    due = next_restart(
        ended(RestartPolicy("always"), started_at=5, finished_at=5 + ran, backoff=8 * FIRST_DELAY)
    )
    assert due is not None
    assert due.at == 5 + ran + delay


@pytest.mark.parametrize(
    ("policy", "fields", "restarts"),
    [
        (RestartPolicy("on-failure", max_attempts=3), {"tries": 2}, True),
        (RestartPolicy("on-failure", max_attempts=3), {"tries": 3}, False),
        (RestartPolicy("on-failure", max_attempts=0), {}, False),
        (RestartPolicy("on-failure", max_attempts=3, window=10), {"tries": 3, "finished_at": 9}, False),
        (RestartPolicy("on-failure", max_attempts=3, window=10), {"tries": 3, "finished_at": 10}, True),
    ],
)
def test_attempts_are_counted(policy: RestartPolicy, fields: dict[str, Any], restarts: bool) -> None:
    assert (next_restart(ended(policy, exit_code=1, **fields)) is not None) is restarts


def test_a_long_run_forgets_earlier_tries() -> None:
    due = next_restart(ended(RestartPolicy("always", window=10), tries=7, finished_at=10))
    assert due is not None
    assert due.tries == 1


def test_a_fixed_delay_does_not_grow() -> None:
    policy = RestartPolicy("always", delay=5 * SECOND)
    for backoff in (0, LONGEST_DELAY):
        due = next_restart(ended(policy, finished_at=1, backoff=backoff))
        assert due is not None
        assert due.at == 1 + 5 * SECOND


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, LONGEST_DELAY))
def test_a_restart_is_never_early_and_never_far(started: int, finished: int, backoff: int) -> None:
    due = next_restart(
        ended(RestartPolicy("always"), started_at=started, finished_at=finished, backoff=backoff)
    )
    assert due is not None
    assert FIRST_DELAY <= due.backoff <= LONGEST_DELAY or backoff < FIRST_DELAY
    assert 0 < due.at - finished <= LONGEST_DELAY
