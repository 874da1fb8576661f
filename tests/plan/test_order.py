"""Order, circles and who is drawn in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import StackFileError
from composer.model.stack import Service
from composer.plan import order
from tests.plan.worlds import COMPLETED, HEALTHY, service


def of(*services: Service) -> dict[str, Service]:
    return {each.name: each for each in services}


DIAMOND = of(
    service("top", "left", "right"),
    service("left", "base"),
    service("right", "base:restart"),
    service("base"),
)


def test_dependencies_come_first_and_names_decide_the_rest() -> None:
    assert order.ordered(DIAMOND) == ("base", "left", "right", "top")


@pytest.mark.parametrize(
    ("services", "circle"),
    [
        (of(service("a", "a")), "a → a"),
        (of(service("a", "b"), service("b", "c"), service("c", "b")), "b → c → b"),
    ],
)
def test_circles_are_named(services: dict[str, Service], circle: str) -> None:
    with pytest.raises(StackFileError, match=circle):
        order.ordered(services)


def test_a_long_chain_is_no_problem() -> None:
    names = [f"s{number}" for number in range(5_000)]
    chain = of(service("s0"), *(service(b, a) for a, b in itertools.pairwise(names)))
    assert order.ordered(chain) == tuple(names)


def test_missing_dependencies_are_passed_over() -> None:
    assert order.ordered(of(service("a", "gone:optional"))) == ("a",)


def test_who_is_drawn_in() -> None:
    direct = order.dependents(DIAMOND)
    assert direct["base"] == ("left", "right")
    assert order.with_dependencies(DIAMOND, ["left"]) == {"left", "base"}
    assert order.with_dependents(DIAMOND, direct, ["left"]) == {"left", "top"}
    assert order.with_dependents(DIAMOND, direct, ["base"], restarted=True) == {"base", "right"}


def test_the_strongest_condition_is_awaited() -> None:
    services = of(service("a", "c:healthy"), service("b", "c", "d:completed"), service("c"), service("d"))
    assert order.awaited(services) == {"c": HEALTHY, "d": COMPLETED}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_any_graph_is_ordered_or_has_a_circle(edges: list[tuple[int, int]]) -> None:
    needs: dict[int, set[int]] = {number: set() for number in range(10)}
    for one, other in edges:
        needs[one].add(other)
    services = of(*(service(str(one), *map(str, sorted(others))) for one, others in needs.items()))
    try:
        found = order.ordered(services)
    except StackFileError:
        assert any(_reaches(needs, one, one) for one in needs)
        return
    assert sorted(found) == sorted(services)
    for one, others in needs.items():
        assert all(found.index(str(other)) < found.index(str(one)) for other in others)


def _reaches(needs: dict[int, set[int]], start: int, goal: int) -> bool:
    seen: set[int] = set()
    todo = list(needs[start])
    while todo:
        one = todo.pop()
        if one == goal:
            return True
        if one not in seen:
            seen.add(one)
            todo.extend(needs[one])
    return False
