"""Where an instance of a service stands on its way to the goal: the words that planning is made of."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from composer.plan.observed import Container, Slot


class Phase(Enum):
    MISSING = "its slot is empty and is to be filled"
    REPLACE = "it is to make room for a new one"
    AGAIN = "it runs, and is to be begun again"
    START = "it does not run, and should"
    WAITS = "it does not run, and is to start with the first connection"
    HOOKS = "it runs, its post_start hooks have not"
    UP = "it runs as it should"
    ENDED = "it was begun for this goal, and ended by itself"
    DONE = "a one-shot that has done its work"
    STOP = "it runs, or would be restarted, and is to be stopped"
    REMOVE = "it is to be removed"
    TURN = "it runs, and waits for its turn to be replaced"
    HELD = "it runs, and is not replaced, as the update failed before its turn"
    TAKE_OVER = "it is well, and takes over from the one that it replaces"
    ROLL_BACK = "it failed, so that the whole update is taken back"
    LEFT = "nobody wants anything of it"


class Instance(NamedTuple):
    slot: Slot
    name: str
    container: Container | None
    phase: Phase
    because: str = ""
    live: tuple[str, ...] = ()
    """Fields that changed and only need recording."""
    standby: bool = False
    """Of an empty slot: who fills it serves nobody until it takes over."""
    of: str = ""
    """Whom it takes over from: the name of a container, "" for nobody."""
    awaits: str = ""
    """What else has to come true before the wish is fulfilled."""
    wake_at: int | None = None
    """When to look at it again."""


PENDING = frozenset((Phase.MISSING, Phase.REPLACE, Phase.AGAIN, Phase.START))
"""On the way to running."""
GOING = frozenset((Phase.REPLACE, Phase.AGAIN, Phase.STOP, Phase.REMOVE))
"""To be stopped, if it still runs."""
