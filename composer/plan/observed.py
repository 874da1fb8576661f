"""What is: a stack's containers, networks, volumes and images as last seen. Values only, no decisions.

Times are nanoseconds since the epoch; 0 means "never". Whoever observes fills these in; whoever executes
keeps the parts that only an execution knows (what was asked, what failed).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from composer.model.stack import NOTHING, RestartPolicy, Service
from composer.plan.health import Health
from composer.value import Value

State = Literal["created", "running", "paused", "exited", "dead"]
ALIVE = frozenset(("running", "paused"))


class Slot(NamedTuple):
    """The place of one numbered instance of a service. It outlives the containers that fill it."""

    service: str
    number: int

    def __str__(self) -> str:
        return f"{self.service}-{self.number}"


class Container(Value):
    """One container. `created`: made, never begun; `dead`: half made or removed, only fit for removal."""

    slot: Slot
    name: str
    id: str = ""
    state: State = "created"
    digests: Mapping[str, str] = NOTHING
    """The service's digests per field, as recorded when it was created or last updated."""
    image: str = ""
    """The reference it was created from."""
    image_id: str = ""
    restart: RestartPolicy = RestartPolicy()
    """The policy in force. It is kept here because an orphan's service is no longer desired."""
    networks: tuple[str, ...] = ()
    """Names on the host, of networks it is attached to."""
    volumes: tuple[str, ...] = ()
    """Names on the host, of named volumes it mounts."""
    created_at: int = 0
    begun_at: int = 0
    """When it was last started on purpose, not by its restart policy."""
    started_at: int = 0
    """When its process was last started, for whatever reason."""
    finished_at: int = 0
    exit_code: int = 0
    oom: bool = False
    restarts: int = 0
    """Restarts by policy since it was last begun."""
    tries: int = 0
    """Restarts by policy since a run last outlived the policy's window."""
    backoff: int = 0
    """The delay before the last restart by policy."""
    kill_at: int | None = None
    """Set while its stop signal works: when patience ends."""
    patience: int = 0
    """How long it was given by whoever last asked it to stop, in nanoseconds."""
    stopped: bool = False
    """Asked to stop, by a person or by a plan: its policy does not restart it."""
    again: bool = False
    """Asked to stop only to be started again, whatever its policy says."""
    health: Health | None = None
    """None: it has no healthcheck."""
    hooks: tuple[str, ...] = ()
    """What ran to the end: `pre_start` (once in its life), `post_start` (since it was last begun)."""
    oneoff: bool = False
    standby: bool = False
    """Made to take over from one that serves: until then without published ports and the service's name."""
    retired: bool = False
    """Another one took over from it."""
    gated: bool = False
    """Connections to its published ports wait with us: until it has started, or for it to be thawed."""
    used_at: int = 0
    """When somebody was last known to use it."""
    idle_after: int = 0
    """How long nobody may use it before it is frozen, as a person asked for; 0: what its service says."""

    @property
    def alive(self) -> bool:
        return self.state in ALIVE

    @property
    def waiting(self) -> bool:
        """The next connection starts it."""
        return self.gated and not self.alive

    @property
    def idle(self) -> bool:
        """Frozen as nobody used it; the next connection thaws it."""
        return self.gated and self.state == "paused"


class NetworkState(Value):
    """A network of this host. `owner` is the stack that made it, "" when nobody did."""

    name: str
    key: str = ""
    owner: str = ""
    digest: str = ""


class VolumeState(Value):
    name: str
    key: str = ""
    owner: str = ""
    digest: str = ""


class ImageState(Value):
    """An image that is here. `checked_at`: when it was last pulled, built, or found current."""

    id: str
    checked_at: int = 0


Subject = tuple[str, str]
"""What an action is about: a kind (`container`, `network`, `volume`, `image`) and a name."""


NO_FAILURES: Mapping[Subject, str] = MappingProxyType({})


class Observed(Value):
    """Everything a plan looks at. Other stacks' networks and volumes may be among them: untouched."""

    containers: tuple[Container, ...] = ()
    networks: Mapping[str, NetworkState] = NOTHING
    """By name on the host."""
    volumes: Mapping[str, VolumeState] = NOTHING
    """By name on the host."""
    images: Mapping[str, ImageState] = NOTHING
    """By reference."""
    made: Mapping[str, Service] = NOTHING
    """By name of a container: what it was made from, as far as that is known. Only for words."""
    failures: Mapping[Subject, str] = NO_FAILURES
    """What went wrong while carrying out the present options; new options begin with none."""
