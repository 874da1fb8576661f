"""What can be done: one frozen class per action, each with the cause that made it so.

Nothing is decided here or after here: an executor matches on the class and makes one call. `subject` names
what an action is about; no two actions with one subject belong side by side, so an executor that finds a
subject still busy just leaves the action for the next look.
"""

from __future__ import annotations

from collections.abc import Mapping

from composer.model.stack import FirstStep, Hook, RestartPolicy
from composer.plan.observed import Slot, Subject
from composer.value import Value


class Action(Value):
    """`because` says in words what made it so, naming the field where there is one."""

    because: str

    @property
    def subject(self) -> Subject:
        raise NotImplementedError


class ImageAction(Action):
    image: str

    @property
    def subject(self) -> Subject:
        return ("image", self.image)


class PullImage(ImageAction):
    services: tuple[str, ...]
    platform: str = ""


class BuildImage(ImageAction):
    service: str


class RemoveImage(ImageAction):
    pass


class NetworkAction(Action):
    key: str
    name: str

    @property
    def subject(self) -> Subject:
        return ("network", self.name)


class CreateNetwork(NetworkAction):
    digest: str = ""


class RemoveNetwork(NetworkAction):
    pass


class VolumeAction(Action):
    key: str
    name: str

    @property
    def subject(self) -> Subject:
        return ("volume", self.name)


class CreateVolume(VolumeAction):
    pass


class RemoveVolume(VolumeAction):
    pass


class ContainerAction(Action):
    """`name` is unique within a stack, `slot` is not: one-off containers share their service's."""

    slot: Slot
    name: str
    oneoff: bool

    @property
    def subject(self) -> Subject:
        return ("container", self.name)


class CreateContainer(ContainerAction):
    """Everything that is to be recorded with it, so that the next plan can tell what changed."""

    image: str
    image_id: str
    digests: Mapping[str, str]
    restart: RestartPolicy
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    standby: bool = False
    """It serves nobody until it takes over."""


class UpdateContainer(ContainerAction):
    """Record new digests and let changed fields act on the container as it is."""

    fields: tuple[str, ...]
    digests: Mapping[str, str]
    restart: RestartPolicy


class StartContainer(ContainerAction):
    """Begin it on purpose. `awaited` is the condition somebody waits for, "" if nobody does."""

    awaited: str = ""


class AwaitConnection(ContainerAction):
    """Hold its published ports: the first connection to one of them starts it."""


class FreezeContainer(ContainerAction):
    """Hold its published ports and freeze it, if nobody has used it by now."""


class RestartContainer(ContainerAction):
    """Start it again because its policy says so, and record these counters. `backoff` in nanoseconds."""

    restarts: int
    tries: int
    backoff: int


class RunSteps(ContainerAction):
    """Run these `pre_start` steps in order, each in its own container, and record `pre_start` as done."""

    steps: tuple[FirstStep, ...]


class RunHooks(ContainerAction):
    """Run the `post_start` hooks, in order, and record `post_start` as done."""

    hooks: tuple[Hook, ...]


class StopContainer(ContainerAction):
    """Run the `pre_stop` hooks, send the signal, record `kill_at` = now + grace, and `stopped` or `again`.

    An empty signal or a grace of None means what the container was created with. Nanoseconds. With `again`,
    the container is not `stopped`: it is to be restarted once it has ended.
    """

    signal: str = ""
    grace: int | None = None
    hooks: tuple[Hook, ...] = ()
    again: bool = False
    tries: int = 0
    """With `again`: how many restarts count so far."""


class TakeOver(ContainerAction):
    """It gets the published ports and the service's name; from the container `of`, which retires, if any."""

    of: str


class KillContainer(ContainerAction):
    pass


class RemoveContainer(ContainerAction):
    """`volumes`: its anonymous volumes go too; otherwise they stay with the slot."""

    volumes: bool = False


class RollBack(Action):
    """Desire the service again as it was before this wish. It stands as failed then: no second time."""

    service: str

    @property
    def subject(self) -> Subject:
        return ("service", self.service)


VERBS: Mapping[type[Action], str] = {
    PullImage: "pull",
    BuildImage: "build",
    RemoveImage: "remove",
    CreateNetwork: "create",
    RemoveNetwork: "remove",
    CreateVolume: "create",
    RemoveVolume: "remove",
    CreateContainer: "create",
    UpdateContainer: "update",
    StartContainer: "start",
    AwaitConnection: "await a connection",
    FreezeContainer: "freeze",
    RestartContainer: "restart",
    RunSteps: "run pre_start",
    RunHooks: "run post_start",
    TakeOver: "take over",
    RollBack: "roll back",
    StopContainer: "stop",
    KillContainer: "kill",
    RemoveContainer: "remove",
}


def describe(action: Action) -> str:
    """One line, for people: `web-1 create: missing`."""
    kind, name = action.subject
    if isinstance(action, ContainerAction):
        what = action.name if action.oneoff else str(action.slot)
    else:
        what = f"{kind} {action.key if isinstance(action, (NetworkAction, VolumeAction)) else name}"
    return f"{what} {VERBS[type(action)]}: {action.because}"
