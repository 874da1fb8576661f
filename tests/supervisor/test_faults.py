"""What the runtime says about a failed start, in the words of the stack file."""

from __future__ import annotations

import pytest

from composer.errors import RuntimeStepError
from composer.plan.observed import Container, Slot
from composer.supervisor.faults import explained
from composer.supervisor.world import Live


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("linux.resources.cpu.cpus: writing '0-63': Numerical result out of range", "services.web.cpuset"),
        ("linux.resources.blockIO.weight: out of range", "services.web.blkio_config"),
        ("linux.resources.memory.kernel: out of range", "services.web.memory.kernel"),
    ],
)
def test_a_limit_that_the_kernel_refuses_is_told_by_its_key(text: str, where: str) -> None:
    live = Live(Container(slot=Slot("web", 1), name="s-web-1"))
    told = explained(RuntimeStepError(text, step="cgroup", path="/sys/fs/cgroup/x"), live)
    assert told.message.startswith(f"container s-web-1: {where}: ")
    assert "/sys" not in told.message and told.hint
