"""Plans of `up`, as text."""

from __future__ import annotations

from composer.plan.observed import Observed
from tests.plan.worlds import (
    desired,
    named,
    now,
    plan,
    service,
    settled,
    text,
)

WEB_DB = desired(service("web", "db:healthy"), service("db", volumes=(named("data"),)))


def test_first_up_makes_everything_in_order() -> None:
    assert plan(WEB_DB, Observed()) == text("""
        image app:1 pull: missing
        network default create: missing
        volume data create: missing
        db-1 create: missing
        web-1 create: missing
        db-1 start: created
        web-1 start: created
    """)


def test_second_up_does_nothing() -> None:
    assert plan(WEB_DB, settled(WEB_DB)) == ""


def test_changed_image_replaces_only_its_service() -> None:
    newer = desired(service("web", "db:healthy", image="app:2"), service("db", volumes=(named("data"),)))
    assert plan(newer, settled(WEB_DB)) == text("""
        image app:2 pull: missing
        web-1 stop: recreate: image app:1 → app:2
        web-1 remove: recreate: image app:1 → app:2
        web-1 create: missing
        web-1 start: created
    """)


def test_the_old_one_runs_until_the_new_image_is_here() -> None:
    newer = desired(service("web", image="app:2"))
    assert now(newer, settled(desired(service("web")))) == text("""
        image app:2 pull: missing
        web-1 waits: image app:2 to be pulled
    """)


def test_a_failed_pull_leaves_the_old_one_alone() -> None:
    newer = desired(service("web", image="app:2"))
    world = settled(desired(service("web"))).replace(failures={("image", "app:2"): "no such image"})
    assert now(newer, world) == text("""
        image app:2 failed: no such image
        web-1 failed: no such image
    """)
