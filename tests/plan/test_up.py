"""Plans of `up`, as text."""

from __future__ import annotations

from typing import Any

import pytest

from composer.model.stack import (
    Build,
    FirstStep,
    FrozenMap,
    Hook,
    Network,
    Provider,
    Resources,
    RestartPolicy,
    Service,
)
from composer.plan.actions import RemoveContainer, RunSteps
from composer.plan.changes import CONSEQUENCES
from composer.plan.health import Health
from composer.plan.observed import ImageState, NetworkState, Observed, VolumeState
from composer.plan.predict import predict, simulate
from composer.plan.step import step
from tests.plan.worlds import (
    BEFORE,
    NOW,
    SINCE,
    changed,
    container,
    desired,
    named,
    now,
    options,
    plan,
    service,
    settled,
    slots,
    states,
    text,
)

WEB_DB = desired(service("web", "db:healthy"), service("db", volumes=(named("data"),)))
HEALTHY = Health(status="healthy")
UNHEALTHY = Health(status="unhealthy", streak=3)
EXITED = {"state": "exited", "exit_code": 3, "finished_at": NOW}
FAILED = "web-1 failed: dependency failed to start: container s-db-1"


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
    newer = desired(service("web", image="app:2"), service("front", "web"))
    world = settled(desired(service("web"))).replace(failures={("image", "app:2"): "no such image"})
    assert now(newer, world) == text("""
        front-1 create: missing
        image app:2 failed: no such image
        web-1 failed: no such image
    """)
    world = predict(world, step(newer, world, options(), NOW).actions[0], "s", NOW)
    assert now(newer, world).splitlines()[-1] == "front-1 failed: dependency failed to start: no such image"


@pytest.mark.parametrize(
    ("field", "value", "cause"),
    [
        ("environment", FrozenMap(A="1"), "environment changed"),
        ("command", ("sh",), "command changed"),
        ("privileged", True, "privileged changed"),
        ("ports", ("80",), "ports changed"),
        ("post_start", (Hook(("true",)),), "post_start changed"),
    ],
)
def test_the_cause_names_the_field(field: str, value: Any, cause: str) -> None:
    newer = desired(service("web", **{field: value}))
    first = plan(newer, settled(desired(service("web")))).splitlines()[0]
    assert first == f"web-1 stop: recreate: {cause}"


def test_several_changed_fields_are_all_named() -> None:
    newer = desired(service("web", image="app:2", tty=True, environment=FrozenMap(A="1")))
    world = settled(desired(service("web")))
    world = world.replace(images=FrozenMap({**world.images, "app:2": ImageState("sha:2")}))
    assert now(newer, world) == "web-1 stop: recreate: environment, image app:1 → app:2, tty"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("profiles", ("dev",)),
        ("pull_policy", "missing"),
        ("attach", False),
        ("deploy_labels", FrozenMap(a="b")),
        ("develop", ("rule",)),
    ],
)
def test_fields_that_force_nothing(field: str, value: Any) -> None:
    assert plan(desired(service("web", **{field: value})), settled(desired(service("web")))) == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("restart", RestartPolicy("always")),
        ("stop_grace_period", 5),
        ("stop_signal", "SIGINT"),
        ("resources", Resources(memory=1 << 20)),
    ],
)
def test_fields_that_act_on_what_runs(field: str, value: Any) -> None:
    newer = desired(service("web", **{field: value}))
    world = settled(desired(service("web")))
    assert plan(newer, world) == f"web-1 update: {field} changed"
    after = settled(newer, world, options(), NOW)
    assert container(after, "web-1").started_at == BEFORE
    assert plan(newer, after) == ""


def test_the_table_of_consequences_names_fields_that_exist() -> None:
    assert set(CONSEQUENCES) <= set(Service.__fields__)


def test_a_newer_image_of_the_same_name_replaces() -> None:
    want = desired(service("web"))
    world = settled(want).replace(images=FrozenMap({"app:1": ImageState("sha:9", BEFORE)}))
    assert now(want, world) == "web-1 stop: recreate: image app:1 is a newer one"


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        ({"force_recreate": True}, ["web-1 stop: recreate: --force-recreate"]),
        ({"renew_anon_volumes": True}, ["web-1 stop: recreate: --renew-anon-volumes"]),
        ({"always_recreate_deps": True}, ["db-1 stop: recreate: --always-recreate-deps"]),
        ({"no_deps": True}, []),
    ],
)
def test_flags_that_force(flags: dict[str, bool], lines: list[str]) -> None:
    got = now(WEB_DB, settled(WEB_DB), options("up", "web", **flags))
    assert [line for line in got.splitlines() if "waits" not in line] == lines


def test_forced_ones_are_replaced_once() -> None:
    wish = options(force_recreate=True)
    after = settled(WEB_DB, settled(WEB_DB), wish, NOW)
    assert plan(WEB_DB, after, wish) == ""
    assert container(after, "web-1").created_at == NOW


def test_renewing_takes_the_anonymous_volumes_along() -> None:
    for wish, along in ((options(renew_anon_volumes=True), True), (options(force_recreate=True), False)):
        actions = simulate(WEB_DB, settled(WEB_DB), wish, NOW)
        assert [a.volumes for a in actions if isinstance(a, RemoveContainer)] == [along, along]


def test_no_recreate_only_starts() -> None:
    newer = desired(service("web", image="app:2"))
    world = changed(settled(desired(service("web"))), "web-1", state="exited", exit_code=1)
    world = world.replace(images=FrozenMap({**world.images, "app:2": ImageState("sha:2")}))
    assert plan(newer, world, options(no_recreate=True)) == "web-1 start: exited (1)"


def test_no_start_makes_but_does_not_begin() -> None:
    assert plan(WEB_DB, Observed(), options(no_start=True)).splitlines()[-2:] == [
        "db-1 create: missing",
        "web-1 create: missing",
    ]
    newer = desired(service("web", tty=True))
    assert states(settled(newer, settled(desired(service("web"))), options(no_start=True), NOW)) == {
        "web-1": "created"
    }


def test_dependents_are_stopped_first() -> None:
    assert plan(WEB_DB, settled(WEB_DB), options(force_recreate=True)) == text("""
        web-1 stop: recreate: --force-recreate
        db-1 stop: recreate: --force-recreate
        web-1 remove: recreate: --force-recreate
        db-1 remove: recreate: --force-recreate
        web-1 create: missing
        db-1 create: missing
        db-1 start: created
        web-1 start: created
    """)


def test_restart_true_is_passed_on() -> None:
    want = desired(service("web", "db:restart"), service("log", "db"), service("db"))
    newer = desired(service("web", "db:restart"), service("log", "db"), service("db", tty=True))
    assert plan(newer, settled(want)) == text("""
        web-1 stop: db: recreate: tty changed
        db-1 stop: recreate: tty changed
        db-1 remove: recreate: tty changed
        db-1 create: missing
        db-1 start: created
        web-1 start: stopped (143)
    """)


def test_dependents_that_nobody_named_begin_again_as_they_are() -> None:
    want = desired(service("web", "db:restart"), service("db"))
    newer = desired(service("web", "db:restart", tty=True), service("db", tty=True))
    assert plan(newer, settled(want), options("up", "db")) == text("""
        web-1 stop: db: recreate: tty changed
        db-1 stop: recreate: tty changed
        db-1 remove: recreate: tty changed
        db-1 create: missing
        db-1 start: created
        web-1 start: stopped (143)
    """)
    idle = changed(settled(want), "web-1", state="exited")
    assert "web-1" not in plan(newer, idle, options("up", "db"))
    assert "web-1" not in plan(newer, settled(want), options("up", "db", no_deps=True))


def test_scaling_a_dependency_restarts_nobody() -> None:
    want = desired(service("web", "db:restart"), service("db"))
    assert plan(want, settled(want), options(scale={"db": 2})) == text("""
        db-2 create: missing
        db-2 start: created
    """)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1, 3, ["web-1", "web-2", "web-3"]),
        (3, 1, ["web-1"]),
        (3, 0, []),
        (0, 2, ["web-1", "web-2"]),
    ],
)
def test_scale(before: int, after: int, expected: list[str]) -> None:
    world = settled(desired(service("web", scale=before)))
    assert slots(settled(desired(service("web", scale=after)), world, options(), NOW)) == expected


def test_scaling_down_removes_the_highest() -> None:
    want = desired(service("web", scale=2))
    assert plan(desired(service("web", scale=1)), settled(want)) == text("""
        web-2 stop: scale is 1
        web-2 remove: scale is 1
    """)


def test_a_service_that_is_not_wanted_is_left_alone() -> None:
    newer = desired(service("web", tty=True), service("db", tty=True))
    world = settled(desired(service("web"), service("db")))
    assert now(newer, world, options("up", "web")) == "web-1 stop: recreate: tty changed"


def test_dependencies_of_a_wanted_service_come_along() -> None:
    world = Observed(images={"app:1": ImageState("sha:1")})
    got = plan(desired(service("web", "db"), service("db"), service("other")), world, options("up", "web"))
    assert "db-1 start: created" in got
    assert "other" not in got
    assert "db-1" not in plan(WEB_DB, Observed(), options("up", "web", no_deps=True))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "exited", "exit_code": 0}, "web-1 start: exited (0)"),
        ({"state": "exited", "exit_code": 137, "oom": True}, "web-1 start: out of memory (137)"),
        ({"state": "exited", "exit_code": 143, "stopped": True}, "web-1 start: stopped (143)"),
        ({"state": "created", "begun_at": 0}, "web-1 start: created"),
        ({"state": "exited", "begun_at": SINCE}, ""),
        ({"state": "running", "kill_at": NOW + 9}, "web-1 waits: to stop"),
        ({"state": "running", "kill_at": NOW}, "web-1 kill: did not stop in time"),
        ({"state": "dead"}, "web-1 remove: recreate: it is only half there"),
        ({"state": "paused"}, ""),
    ],
)
def test_what_up_does_with_each_state(fields: dict[str, Any], expected: str) -> None:
    want = desired(service("web"))
    assert now(want, changed(settled(want), "web-1", **fields)) == expected


def test_one_shots_that_did_their_work_do_not_run_twice() -> None:
    want = desired(service("web", "job:completed"), service("job"))
    world = settled(want)
    assert states(world) == {"job-1": "exited", "web-1": "running"}
    assert plan(want, world) == ""
    assert now(want, changed(world, "job-1", exit_code=1)) == "job-1 start: exited (1)"
    again = desired(service("web", "job:completed"), service("job", command=("other",)))
    assert "job-1 start: created" in plan(again, world)


@pytest.mark.parametrize(
    ("after", "fields", "expected"),
    [
        ("db", {}, "web-1 start: created"),
        ("db", {"state": "exited", "exit_code": 1}, "web-1 start: created"),
        ("db:healthy", {"health": HEALTHY}, "web-1 start: created"),
        ("db:healthy", {"health": Health()}, "web-1 waits: db-1 to be healthy"),
        ("db:healthy", {"health": UNHEALTHY}, f"{FAILED} is unhealthy"),
        ("db:healthy", {"health": None}, f"{FAILED} has no healthcheck configured"),
        ("db:healthy", EXITED, f"{FAILED} exited (3)"),
        ("db:healthy", {**EXITED, "restart": RestartPolicy("always")}, "web-1 waits: db-1 to be restarted"),
        ("db:healthy:optional", {"health": UNHEALTHY}, "web-1 start: created"),
        ("db:healthy:optional", {"health": Health()}, "web-1 waits: db-1 to be healthy"),
        ("db:completed", {}, "web-1 waits: db-1 to complete"),
        ("db:completed", {"state": "exited", "exit_code": 0}, "web-1 start: created"),
        ("db:completed", EXITED, "web-1 failed: service db didn't complete successfully: exit 3"),
        ("db:completed:optional", EXITED, "web-1 start: created"),
    ],
)
def test_conditions(after: str, fields: dict[str, Any], expected: str) -> None:
    want = desired(service("web", after), service("db"))
    world = changed(settled(want), "db-1", state="running", begun_at=SINCE, started_at=SINCE)
    world = changed(changed(world, "web-1", state="created", begun_at=0), "db-1", **fields)
    assert now(want, world) == expected


def test_every_instance_of_a_dependency_counts() -> None:
    want = desired(service("web", "db:healthy"), service("db", scale=2))
    world = changed(settled(want), "db-2", health=Health(), begun_at=SINCE)
    assert now(want, changed(world, "web-1", state="created")) == "web-1 waits: db-2 to be healthy"


def test_a_failure_is_told_all_the_way_up_with_its_first_cause() -> None:
    want = desired(service("a", "b"), service("b", "c:healthy"), service("c"))
    world = changed(settled(want), "c-1", health=UNHEALTHY, begun_at=SINCE)
    for name in ("a-1", "b-1"):
        world = changed(world, name, state="created", begun_at=0)
    cause = "dependency failed to start: container s-c-1 is unhealthy"
    assert now(want, world) == f"b-1 failed: {cause}\na-1 failed: {cause}"
    assert step(want, world, options(), NOW).settled


def test_a_container_that_cannot_start_fails_its_dependents() -> None:
    want = desired(service("web", "db"), service("db"))
    world = settled(want).replace(failures={("container", "s-db-1"): "no such program"})
    for name in ("web-1", "db-1"):
        world = changed(world, name, state="created", begun_at=0)
    assert now(want, world) == text("""
        container s-db-1 failed: no such program
        web-1 failed: dependency failed to start: container s-db-1: no such program
    """)
    world = world.replace(failures={("container", "s-db-1"): "container s-db-1: no such program"})
    assert now(want, world).endswith("failed to start: container s-db-1: no such program")


def test_dependencies_without_containers_are_met() -> None:
    want = desired(service("web", "db:healthy"), service("db", scale=0))
    assert plan(want, Observed()).splitlines()[-1] == "web-1 start: created"
    want = desired(service("web", "db"), service("db", provider=Provider("cloud")))
    assert plan(want, Observed()).splitlines()[-1] == "web-1 start: created"


def test_post_start_hooks_run_before_dependents_start() -> None:
    want = desired(service("web", "db"), service("db", post_start=(Hook(("init",)),)))
    assert plan(want, Observed()).splitlines()[-3:] == [
        "db-1 start: created",
        "db-1 run post_start: started",
        "web-1 start: created",
    ]


def test_pre_start_steps_run_once_before_the_first_start() -> None:
    steps = (FirstStep(Service(name="", image="tool:1")), FirstStep(Service(name=""), per_replica=True))
    want = desired(service("web", scale=2, pre_start=steps))
    got = plan(want, Observed()).splitlines()
    assert got[:2] == ["image app:1 pull: missing", "image tool:1 pull: missing"]
    assert got[-4:] == [
        "web-1 run pre_start: first start",
        "web-1 start: created",
        "web-2 run pre_start: first start",
        "web-2 start: created",
    ]
    actions = simulate(want, Observed(), options(), NOW)
    assert [len(a.steps) for a in actions if isinstance(a, RunSteps)] == [2, 1]
    stopped = changed(settled(want), "web-1", state="exited")
    assert plan(want, stopped) == "web-1 start: exited (0)"


@pytest.mark.parametrize(
    ("policy", "known", "expected"),
    [
        ("", None, "image app:1 pull: missing"),
        ("", BEFORE, ""),
        ("always", BEFORE, "image app:1 pull: pull policy always"),
        ("always", SINCE, ""),
        ("missing", BEFORE, ""),
        ("never", BEFORE, ""),
        ("every_1s", BEFORE, ""),
        ("daily", BEFORE, ""),
    ],
)
def test_pull_policies(policy: str, known: int | None, expected: str) -> None:
    want = desired(service("web", pull_policy=policy))
    world = settled(want)
    world = world.replace(images=FrozenMap({"app:1": ImageState("sha:1", known)} if known else {}))
    assert now(want, world) == expected
    assert now(desired(service("web")), world, options(pull=policy)) == expected


@pytest.mark.parametrize(
    ("policy", "nanoseconds"),
    [
        ("daily", 86_400 * 10**9),
        ("weekly", 604_800 * 10**9),
        ("every_90s", 90 * 10**9),
        ("every_1h30m", 5_400 * 10**9),
        ("every_1w2d", 777_600 * 10**9),
    ],
)
def test_periods_of_pull_policies(policy: str, nanoseconds: int) -> None:
    want = desired(service("web", pull_policy=policy))
    world = settled(want)
    assert now(want, world, at=BEFORE + nanoseconds - 1) == ""
    assert now(want, world, at=BEFORE + nanoseconds) == f"image app:1 pull: pull policy {policy}"


def test_an_image_that_must_not_be_pulled_is_missing_for_good() -> None:
    want = desired(service("web", pull_policy="never"))
    assert "web-1 failed: image app:1 is not here, and the pull policy is never" in now(want, Observed())


def test_built_in_images_need_nothing() -> None:
    assert plan(desired(service("web", image="host", networks=FrozenMap())), Observed()) == text("""
        web-1 create: missing
        web-1 start: created
    """)


def test_building() -> None:
    built = {"build": Build("."), "image": ""}
    want = desired(service("web", **built), service("worker", image="s-web"))
    assert plan(want, Observed()).splitlines()[0] == "image s-web build: missing"
    world = settled(want, Observed(), at=BEFORE)
    assert plan(want, world) == ""
    assert plan(want, world, options(build=True)) == "image s-web build: --build"
    assert now(want, Observed(), options(no_build=True)).splitlines()[0] == "image s-web pull: missing"


def test_networks_and_volumes_of_others() -> None:
    want = desired(
        service("web", volumes=(named("data"),)),
        networks=FrozenMap(default=Network("default", "theirs", external=True)),
    )
    world = settled(desired(service("other"))).replace(containers=())
    got = now(want, world)
    remedy = "(`composer network create theirs` makes it)"
    assert f"web-1 failed: external network theirs does not exist {remedy}" in got
    world = world.replace(
        networks={"theirs": NetworkState("theirs", owner="them")},
        volumes={"s_data": VolumeState("s_data", owner="them")},
    )
    assert plan(want, world) == text("""
        web-1 create: missing
        web-1 start: created
    """)


def test_a_network_of_another_stack_is_in_the_way() -> None:
    want = desired(service("web"))
    world = Observed(
        images={"app:1": ImageState("x")}, networks={"s_default": NetworkState("s_default", owner="them")}
    )
    assert now(want, world) == (
        "web-1 failed: network s_default exists and belongs to them: call it external to use it"
    )


def test_a_changed_network_is_left_by_all_made_anew_and_joined_again() -> None:
    want = desired(service("web"), service("db"))
    inner = FrozenMap(default=Network("default", "s_default", internal=True))
    newer = desired(service("web"), service("db"), networks=inner)
    assert plan(newer, settled(want)) == text("""
        db-1 stop: recreate: network s_default changed
        web-1 stop: recreate: network s_default changed
        db-1 remove: recreate: network s_default changed
        web-1 remove: recreate: network s_default changed
        network default remove: recreate: its definition changed
        network default create: missing
        db-1 create: missing
        web-1 create: missing
        db-1 start: created
        web-1 start: created
    """)
    assert plan(newer, settled(want), options("up", "web")) == ""


def test_a_changed_network_that_an_orphan_uses() -> None:
    world = settled(desired(service("web"), service("old")))
    inner = FrozenMap(default=Network("default", "s_default", internal=True))
    newer = desired(service("web"), networks=inner)
    reason = "network s_default changed, but s-old-1 uses it and is not of this plan"
    assert now(newer, world) == f"web-1 failed: {reason}"
    assert plan(newer, world, options(remove_orphans=True)).splitlines()[-1] == "web-1 start: created"


def test_a_network_nobody_names_any_more_goes() -> None:
    want = desired(service("web", networks=FrozenMap()))
    world = settled(want).replace(
        networks={"s_old": NetworkState("s_old", "old", "s"), "x": NetworkState("x", "x", "them")}
    )
    assert plan(want, world) == "network old remove: no longer declared"


def test_orphans_stay_unless_asked() -> None:
    world = settled(desired(service("web"), service("old")))
    want = desired(service("web"))
    assert plan(want, world) == ""
    assert plan(want, world, options(remove_orphans=True)) == text("""
        old-1 stop: orphan
        old-1 remove: orphan
    """)


def test_a_slot_is_never_filled_twice() -> None:
    want = desired(service("web"))
    world = settled(want)
    twin = container(world, "web-1").replace(name="s-web-1-twin")
    assert plan(want, world.replace(containers=(*world.containers, twin))) == text("""
        web-1 stop: web-1 exists twice
        web-1 remove: web-1 exists twice
    """)
