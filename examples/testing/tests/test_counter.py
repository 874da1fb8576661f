"""The counter as its users see it: brought up once, and as new for each test."""

from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.composer(scope="module", reset=True)


def get(stack, path):
    return urlopen(stack["api"].url(80, path), timeout=10).read().decode().strip()


def test_counts_begin_at_one(stack):
    assert [get(stack, "/apples") for _ in range(3)] == ["1", "2", "3"]


def test_no_test_sees_what_another_counted(stack):
    assert get(stack, "/apples") == "1"


def test_counts_outlive_the_store(stack):
    get(stack, "/pears")
    stack["store"].kill()
    stack["store"].start()
    assert get(stack, "/pears") == "2"


def test_without_the_store_the_answer_comes_soon(stack):
    with stack.drop("store"), pytest.raises(HTTPError, match="503"):
        get(stack, "/apples")
    stack["api"].wait_for_log("store: timed out")
    assert get(stack, "/apples")


def test_the_store_cannot_be_reached_from_outside(stack):
    assert [port["target"] for port in stack["store"].container.ports] == []
    assert stack["api"].exec("getent", "hosts", "store").ok


def test_nothing_outside_is_needed(stack):
    get(stack, "/apples")
    assert not stack.reached()
