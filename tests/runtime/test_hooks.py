"""Hooks: when, where and with what they run, and what a failing one does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from composer.runtime import hooks
from composer.runtime.errors import StepError
from tests.runtime.box import Box, wait

pytestmark = pytest.mark.kernel

BUSYBOX = "/bin/busybox"


def hook(script: str, **more: Any) -> dict[str, Any]:
    return {"path": BUSYBOX, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], **more}


def record(box: Box, name: str) -> dict[str, Any]:
    """A hook that says who and where it is, and keeps the state it was told."""
    prefix = f"{box.directory}/{name}"
    namespaces = "; ".join(f"readlink /proc/self/ns/{kind} > {prefix}.{kind}" for kind in ("pid", "mnt"))
    return hook(f"cat > {prefix}; {namespaces}")


def test_each_runs_in_its_place_with_the_state(box: Box) -> None:
    spec = box.spec("sleep", "100")
    spec["annotations"] = {"a": "b"}
    names = ("prestart", "createRuntime", "createContainer")
    spec["hooks"] = {name: [record(box, name)] for name in names}
    container = box.create(spec, name="mine")
    here = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt")}
    there = {kind: os.readlink(f"/proc/{container.pid}/ns/{kind}") for kind in ("pid", "mnt")}
    for name, place in zip(names, (here, here, there), strict=True):
        state = json.loads((box.directory / name).read_text())
        assert {**state, "pid": 0} == {
            "ociVersion": "1.2.0",
            "id": "mine",
            "status": "created",
            "pid": 0,
            "bundle": str(box.directory),
            "annotations": {"a": "b"},
        }
        assert state["pid"] == (container.pid if place is here else 1)
        for kind in ("pid", "mnt"):
            assert (box.directory / f"{name}.{kind}").read_text().strip() == place[kind]


def test_start_container_runs_inside_before_the_program(box: Box) -> None:
    spec = box.spec("cat", "/order")
    script = "echo $0 start > /order; readlink /proc/1/exe"
    spec["hooks"] = {"startContainer": [hook(script)]}
    container = box.create(spec)
    assert not list(box.directory.glob("*/upper/order"))
    container.start()
    wait(container, "running")
    assert list(box.directory.glob("*/upper/order"))


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_ends_create_and_is_heard(box: Box, name: str) -> None:
    spec = box.spec("sh")
    spec["hooks"] = {name: [hook("true"), hook("echo no such luck >&2; exit 3"), record(box, "later")]}
    with pytest.raises(StepError) as caught:
        box.create(spec)
    assert caught.value.step == f"{name} hook"
    assert caught.value.path == BUSYBOX
    assert caught.value.text == "exit status 3: no such luck"
    assert not (box.directory / "later").exists()


def test_a_hook_that_takes_too_long_is_killed(box: Box) -> None:
    spec = box.spec("sh")
    spec["hooks"] = {"createRuntime": [hook("exec sleep 100", timeout=1)]}
    with pytest.raises(StepError, match="not done within 1 s"):
        box.create(spec)


def test_a_missing_hook_is_named() -> None:
    with pytest.raises(StepError, match=r"/nonexistent: exit status 127: No such file"):
        hooks.run({"hooks": {"poststop": [{"path": "/nonexistent"}]}}, "poststop", {})


def test_much_output_does_not_stall_a_hook(tmp_path: Path) -> None:
    spec = {"hooks": {"poststop": [hook("yes | head -c 1000000; exit 1")]}}
    with pytest.raises(StepError) as caught:
        hooks.run(spec, "poststop", {})
    assert len(caught.value.text) < 4096
