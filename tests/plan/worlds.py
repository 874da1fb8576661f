"""Short ways to say what a test needs: stacks, what is there, and plans as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from composer.model.stack import (
    Attachment,
    Condition,
    Dependency,
    FrozenMap,
    Mount,
    Network,
    RestartPolicy,
    Service,
    Stack,
    Volume,
)
from composer.plan.actions import describe
from composer.plan.observed import Container, ImageState, Observed, Slot
from composer.plan.options import Desired, Options
from composer.plan.predict import foresee, simulate
from composer.plan.step import Step, step

BEFORE, SINCE, NOW = 1_000, 2_000, 3_000
"""When the world came to be, when the wish was uttered, when we look."""

HEALTHY: Condition = "service_healthy"
COMPLETED: Condition = "service_completed_successfully"


def service(name: str, *after: str, **fields: Any) -> Service:
    """A service; `after` are dependencies, as `db`, `db:healthy`, `db:completed`, `db:started:restart`."""
    conditions: dict[str, Condition] = {
        "started": "service_started",
        "healthy": HEALTHY,
        "completed": COMPLETED,
    }
    started: Condition = "service_started"
    needs = {}
    for text in after:
        other, *words = text.split(":")
        needs[other] = Dependency(
            condition=next((conditions[word] for word in words if word in conditions), started),
            restart="restart" in words,
            required="optional" not in words,
        )
    fields.setdefault("image", "app:1")
    fields.setdefault("networks", FrozenMap(default=Attachment()))
    if isinstance(fields.get("restart"), str):
        fields["restart"] = RestartPolicy(fields["restart"])
    return Service(name=name, depends_on=FrozenMap(needs), **fields)


def stack(*services: Service, **fields: Any) -> Stack:
    keys = {key for each in services for key in each.networks}
    volumes = {m.source for s in services for m in s.volumes if m.type == "volume" and m.source}
    fields.setdefault("networks", FrozenMap({key: Network(key, f"s_{key}") for key in sorted(keys)}))
    fields.setdefault("volumes", FrozenMap({key: Volume(key, f"s_{key}") for key in sorted(volumes)}))
    return Stack("s", FrozenMap({each.name: each for each in services}), **fields)


def named(source: str, target: str = "/data") -> Mount:
    return Mount("volume", target, source)


def desired(*services: Service, **fields: Any) -> Desired:
    return wanting(stack(*services, **fields))


def wanting(whole: Stack) -> Desired:
    digests = {name: _digests(each) for name, each in whole.services.items()}
    return Desired.of(whole, digests, {key: repr(network) for key, network in whole.networks.items()})


def _digests(each: Service) -> Mapping[str, str]:
    nothing = Service(name="")
    return {field: repr(value) for field, value in each.__dict__.items() if value != getattr(nothing, field)}


def options(goal: str = "up", *services: str, **fields: Any) -> Options:
    return Options(goal=goal, since=SINCE, services=services, **fields)


def settled(
    want: Desired, observed: Observed | None = None, wish: Options | None = None, at: int = BEFORE
) -> Observed:
    """The world once a wish has come true; without a wish, as an earlier `up` left it."""
    start = observed or Observed(images={"app:1": ImageState("sha:1", at)})
    wish = wish or Options(goal="up", since=at)
    return foresee(want, start, wish, at)[1]


def changed(observed: Observed, name: str, **fields: Any) -> Observed:
    """The same world with something different about one container, named as `web-1`."""
    assert any(str(c.slot) == name for c in observed.containers)
    return observed.replace(
        containers=tuple(c.replace(**fields) if str(c.slot) == name else c for c in observed.containers)
    )


def container(observed: Observed, name: str) -> Container:
    return next(c for c in observed.containers if str(c.slot) == name)


def plan(want: Desired, observed: Observed, wish: Options | None = None, now: int = NOW) -> str:
    """The whole plan as text, one action a line."""
    return lines(describe(action) for action in simulate(want, observed, wish or options(), now))


def now(want: Desired, observed: Observed, wish: Options | None = None, at: int = NOW) -> str:
    """What can be done at once, and what waits, as text."""
    return shown(step(want, observed, wish or options(), at))


def shown(found: Step) -> str:
    waits = (f"{b.instance} {'failed' if b.final else 'waits'}: {b.reason}" for b in found.blocked)
    return lines([*map(describe, found.actions), *waits])


def lines(of: Any) -> str:
    return "\n".join(of)


def text(block: str) -> str:
    """A literal plan, written indented."""
    return "\n".join(line.strip() for line in block.strip().splitlines())


def slots(observed: Observed) -> list[str]:
    return sorted(str(Slot(*c.slot)) for c in observed.containers)


def states(observed: Observed) -> Mapping[str, str]:
    return {str(c.slot): c.state for c in observed.containers}
