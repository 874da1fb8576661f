"""What holds for every stack, every world and every order of events.

A little world carries out actions the way the real one may: one at a time, in any order, stopping anywhere,
with healthchecks that fail and processes that end. Plans must lead through all of it.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from composer.model.stack import Attachment, Condition, Dependency, FrozenMap, Hook, RestartPolicy, Service
from composer.plan import order
from composer.plan.actions import (
    Action,
    ContainerAction,
    CreateContainer,
    FreezeContainer,
    NetworkAction,
    RestartContainer,
    StartContainer,
    StopContainer,
    VolumeAction,
)
from composer.plan.changes import differences
from composer.plan.health import Health
from composer.plan.observed import Container, ImageState, NetworkState, Observed, VolumeState
from composer.plan.options import Desired, Options
from composer.plan.predict import foresee, hopeful, predict
from composer.plan.step import step
from tests.plan.worlds import BEFORE, NOW, SINCE, named, stack, wanting

NAMES = ("a", "b", "c", "d", "e")
CONDITIONS: st.SearchStrategy[Condition] = st.sampled_from([*order.STRENGTH])
FLAGS = st.booleans()
EXAMPLES = 60
CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    "exited": {"state": "exited", "finished_at": BEFORE},
    "stopped": {"state": "exited", "stopped": True, "exit_code": 143},
    "created": {"state": "created", "begun_at": 0},
    "dead": {"state": "dead"},
    "stopping": {"kill_at": NOW},
    "paused": {"state": "paused"},
}
FATES = ("", "", "", "exited", "stopped", "created", "dead", "gone", "stopping", "paused")
BY_ITSELF = (RestartContainer, FreezeContainer)
"""Done to a container whatever is wished for."""
OUTCOMES: tuple[dict[str, Any], ...] = (
    {"state": "running", "health": Health()},
    {"state": "running", "health": Health(status="unhealthy")},
    {"state": "exited", "exit_code": 1, "finished_at": NOW, "health": None},
    {},
)
"""What may become of a container that was started; the last is what one hopes."""
THEIRS = {"theirs": NetworkState("theirs", owner="them"), "s_ext": NetworkState("s_ext")}
THEIR_VOLUMES = {"theirs": VolumeState("theirs", owner="them")}


@st.composite
def services(draw: DrawFn, name: str, before: tuple[str, ...]) -> Service:
    """A service that depends on some of those before it."""
    needs = {
        other: Dependency(draw(CONDITIONS), restart=draw(FLAGS), required=draw(FLAGS))
        for other in before
        if draw(FLAGS)
    }
    return Service(
        name=name,
        image=draw(st.sampled_from(["app:1", "app:2", "host"])),
        scale=draw(st.integers(0, 3)),
        tty=draw(FLAGS),
        restart=RestartPolicy(draw(st.sampled_from(["no", "always", "on-failure", "unless-stopped"]))),
        depends_on=FrozenMap(needs),
        networks=FrozenMap({key: Attachment() for key in ("front", "back") if draw(FLAGS)}),
        volumes=(named("data"),) if draw(FLAGS) else (),
        post_start=(Hook(("x",)),) if draw(FLAGS) else (),
        pull_policy=draw(st.sampled_from(["", "always", "missing"])),
        on_connect=draw(FLAGS),
        idle=draw(st.sampled_from([0, 0, 500, 10**12])),
    )


@st.composite
def desires(draw: DrawFn) -> Desired:
    chosen = [name for name in NAMES if draw(FLAGS)]
    found = [draw(services(name, tuple(chosen[:index]))) for index, name in enumerate(chosen)]
    return wanting(stack(*found))


@st.composite
def worlds(draw: DrawFn) -> Observed:
    """What some other stack file left behind, with things ended, stopped, half made and doubled."""
    observed = settle(draw(desires()), theirs(), Options(goal="up", since=BEFORE), BEFORE)
    containers = []
    for container in observed.containers:
        fate = draw(st.sampled_from(FATES))
        if fate == "gone":
            continue
        if fate in ("stopping", "paused") and not container.alive:
            fate = ""
        changes = {**CHANGES[fate], **({"exit_code": draw(st.integers(0, 1))} if fate == "exited" else {})}
        containers.append(container.replace(**changes))
    if draw(FLAGS):
        containers += [c.replace(name=f"{c.name}-run", oneoff=True) for c in containers[:1]]
    return observed.replace(containers=tuple(containers))


def theirs() -> Observed:
    return Observed(networks=THEIRS, volumes=THEIR_VOLUMES, images={"app:1": ImageState("sha:1", BEFORE)})


@st.composite
def wishes(draw: DrawFn, goal: str = "") -> Options:
    return Options(
        goal=goal or draw(st.sampled_from(["up", "down", "stop", "start", "restart", "rm", "boot", "keep"])),
        since=SINCE,
        services=tuple(draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True))),
        scale=draw(st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), max_size=1)),
        no_deps=draw(FLAGS),
        no_start=draw(FLAGS),
        force_recreate=draw(FLAGS),
        no_recreate=draw(FLAGS),
        always_recreate_deps=draw(FLAGS),
        remove_orphans=draw(FLAGS),
        volumes=draw(FLAGS),
        images=draw(st.sampled_from(["", "local", "all"])),
    )


def settle(want: Desired, observed: Observed, wish: Options, at: int) -> Observed:
    return foresee(want, observed, wish, at)[1]


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes())
def test_it_converges_and_is_idempotent(want: Desired, observed: Observed, wish: Options) -> None:
    after = settle(want, observed, wish, NOW)
    found = step(want, after, wish, NOW)
    assert found.actions == ()
    assert found.settled or found.wake_at is not None  # a restart by policy that somebody waits for


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes(), st.randoms(use_true_random=False))
def test_any_part_done_in_any_order_then_planned_again_converges(
    want: Desired, observed: Observed, wish: Options, chance: random.Random
) -> None:
    expected = settle(want, observed, wish, NOW)
    for _ in range(500):
        actions = list(step(want, observed, wish, NOW).actions)
        if not actions:
            hoped = hopeful(want, observed)
            if hoped == observed:
                break
            observed = hoped
        chance.shuffle(actions)
        for action in actions[: chance.randint(1, len(actions) or 1)]:
            observed = predict(observed, action, "s", NOW)
    assert shape(observed) == shape(expected)


def shape(observed: Observed) -> object:
    """A world without the order in which things were made."""
    containers = sorted(observed.containers, key=lambda c: (c.slot, c.name))
    return (
        [(c.name, c.state, c.digests, c.image_id, c.networks, c.volumes) for c in containers],
        sorted(observed.networks),
        sorted(observed.volumes),
        sorted(observed.images),
    )


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes())
def test_one_action_per_subject(want: Desired, observed: Observed, wish: Options) -> None:
    for actions, _ in passes(want, observed, wish):
        assert max(Counter(action.subject for action in actions).values(), default=1) == 1


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes())
def test_a_slot_never_holds_two(want: Desired, observed: Observed, wish: Options) -> None:
    for _, world in passes(want, observed, wish):
        slots = Counter(c.slot for c in world.containers if not c.oneoff)
        assert max(slots.values(), default=1) == 1


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes())
def test_nothing_outside_the_stack_is_touched(want: Desired, observed: Observed, wish: Options) -> None:
    for actions, world in passes(want, observed, wish):
        for action in actions:
            if isinstance(action, NetworkAction | VolumeAction):
                assert action.name not in (*THEIRS, *THEIR_VOLUMES)
        assert {**world.networks, **THEIRS} == world.networks
        assert {**world.volumes, **THEIR_VOLUMES} == world.volumes


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes())
def test_what_is_not_wanted_is_left_alone(want: Desired, observed: Observed, wish: Options) -> None:
    wish = wish.replace(services=("a",), no_deps=True, remove_orphans=False, goal="up")
    for actions, _ in passes(want, observed, wish):
        for action in actions:
            if isinstance(action, ContainerAction) and not isinstance(action, BY_ITSELF):
                ending = any(c.name == action.name and c.kill_at is not None for c in observed.containers)
                assert action.slot.service == "a" or ending


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes("up"), st.randoms(use_true_random=False))
def test_dependents_never_start_too_early(
    want: Desired, observed: Observed, wish: Options, chance: random.Random
) -> None:
    """With healthchecks that take their time and processes that may fail."""
    for _ in range(100):
        actions = list(step(want, observed, wish, NOW).actions)
        for action in actions:
            if isinstance(action, StartContainer):
                check_conditions(want, observed, wish, action)
        for action in actions:
            observed = surprise(predict(observed, action, "s", NOW), action, chance)
        observed = progress(observed, chance)


def surprise(observed: Observed, action: Action, chance: random.Random) -> Observed:
    """Started containers are not at once what one hopes."""
    if not isinstance(action, StartContainer):
        return observed
    changes = chance.choice(OUTCOMES)
    return observed.replace(
        containers=tuple(c.replace(**changes) if c.name == action.name else c for c in observed.containers)
    )


def progress(observed: Observed, chance: random.Random) -> Observed:
    """Some of what is starting turns healthy or ends."""
    containers = []
    for container in observed.containers:
        if container.alive and container.health and chance.random() < 0.3:
            container = container.replace(health=Health(status="healthy"))
        containers.append(container)
    return observed.replace(containers=tuple(containers))


def check_conditions(want: Desired, observed: Observed, wish: Options, action: StartContainer) -> None:
    by_service: dict[str, list[Container]] = {}
    for container in observed.containers:
        if not container.oneoff:
            by_service.setdefault(container.slot.service, []).append(container)
    service = want.stack.services[action.slot.service]
    for name, dependency in service.depends_on.items():
        taking_part = not wish.services or (not wish.no_deps or name in wish.services)
        if not taking_part or not dependency.required:
            continue
        scale = wish.scale.get(name, want.stack.services[name].scale)
        there = [c for c in by_service.get(name, []) if c.slot.number <= scale]
        assert len(there) == scale
        for container in there:
            if dependency.condition == "service_started":
                assert container.begun_at
            elif dependency.condition == "service_healthy":
                assert container.alive
                assert container.health and container.health.status == "healthy"
            else:
                assert (container.state, container.exit_code) == ("exited", 0)


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes("down"))
def test_down_leaves_nothing(want: Desired, observed: Observed, wish: Options) -> None:
    wish = wish.replace(services=(), volumes=True, remove_orphans=True)
    ended = [c.replace(state="exited") if c.oneoff else c for c in observed.containers]
    after = settle(want, observed.replace(containers=tuple(ended)), wish, NOW)
    assert after.containers == ()
    assert after.networks == THEIRS
    declared = {volume.name for volume in want.stack.volumes.values()}
    assert declared.isdisjoint(after.volumes)


@settings(max_examples=EXAMPLES)
@given(desires(), worlds())
def test_up_makes_it_so(want: Desired, observed: Observed) -> None:
    """After a hopeful `up`, exactly the desired containers are there, with the desired fields."""
    wish = Options(goal="up", since=SINCE, remove_orphans=True)
    after = settle(want, observed, wish, NOW)
    blocked = {entry.service for entry in step(want, after, wish, NOW).blocked}
    for name, service in want.stack.services.items():
        there = [c for c in after.containers if c.slot.service == name and not c.oneoff]
        assert sorted(c.slot.number for c in there) == list(range(1, service.scale + 1))
        assert all(name in blocked or not differences(c.digests, want.digests[name]) for c in there)


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes("down"))
def test_dependencies_outlive_their_dependents(want: Desired, observed: Observed, wish: Options) -> None:
    wish = wish.replace(services=())
    for actions, _ in passes(want, observed, wish):
        stopping = {a.slot.service for a in actions if isinstance(a, StopContainer) and not a.oneoff}
        for service in want.stack.services.values():
            assert service.name not in stopping or stopping.isdisjoint(service.depends_on)


@settings(max_examples=EXAMPLES)
@given(desires(), worlds(), wishes("up"))
def test_no_recreate_replaces_nothing(want: Desired, observed: Observed, wish: Options) -> None:
    wish = wish.replace(no_recreate=True, scale={}, remove_orphans=False)
    before = {c.slot for c in observed.containers if not c.oneoff and c.state != "dead"}
    for actions, _ in passes(want, observed, wish):
        assert not any(isinstance(a, CreateContainer) and a.slot in before for a in actions)


def passes(want: Desired, observed: Observed, wish: Options) -> list[tuple[tuple[Action, ...], Observed]]:
    """Each pass's actions with the world after all of them."""
    found: list[tuple[tuple[Action, ...], Observed]] = []
    for _ in range(200):
        actions = step(want, observed, wish, NOW).actions
        hoped = hopeful(want, observed)
        if not actions and hoped == observed:
            return found
        if not actions:
            observed = hoped
        for action in actions:
            observed = predict(observed, action, "s", NOW)
        found.append((actions, observed))
    raise AssertionError("does not settle")
