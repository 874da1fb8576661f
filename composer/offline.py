"""Whether anybody outside of this host may be asked for what containers are made of. A leaf.

Offline means: no registry, no repository, no download, and no network for the steps of a build. What
containers do when they run is another matter (`internal` networks). It is said in the environment, which
builders inherit.
"""

from __future__ import annotations

import os

from composer.errors import ImageError

VARIABLE = "COMPOSER_OFFLINE"


def is_offline() -> bool:
    return os.environ.get(VARIABLE, "").lower() in ("1", "true", "yes")


def go(offline: bool) -> None:
    """From now on in this process, and in those that it starts."""
    if offline:
        os.environ[VARIABLE] = "1"
    else:
        os.environ.pop(VARIABLE, None)


def refuse(what: str) -> None:
    """Raises ImageError when offline. `what` begins a sentence: `image nginx is not pulled`."""
    if is_offline():
        raise ImageError(f"{what} while offline", hint=f"leave --offline away, or unset {VARIABLE}")
