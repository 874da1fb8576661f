"""When an image is fetched again: the values of `pull_policy` in the Compose Specification. Pure."""

from __future__ import annotations

import re

from composer.errors import ImageError

_NAMED = {"daily": 86_400, "weekly": 604_800}
_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:\d+[wdhms])+")
_PART = re.compile(r"(\d+)([wdhms])")


def is_due(policy: str, pulled: float | None, now: float) -> bool:
    """Whether to ask the registry. `pulled` is when the image here was fetched, None when it is not here.

    `never` and `build` never ask; whoever calls then says that the image is missing. Times in seconds since
    the epoch. Raises ImageError for a policy that does not exist.
    """
    if policy in ("never", "build"):
        return False
    if policy == "always" or (pulled is None and policy in ("", "missing", "if_not_present")):
        return True
    if policy in ("", "missing", "if_not_present"):
        return False
    age = max_age(policy)
    return pulled is None or now - pulled >= age


def max_age(policy: str) -> int:
    """Seconds after which `daily`, `weekly`, `every_12h` or `every_1d12h` ask again. Raises ImageError."""
    text = policy.removeprefix("every_")
    if policy in _NAMED:
        return _NAMED[policy]
    if policy.startswith("every_") and _SPAN.fullmatch(text):
        return sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(text))
    known = "always, missing, if_not_present, never, build, daily, weekly, every_<duration>"
    raise ImageError(f"there is no pull policy {policy!r}", hint=f"there are {known}")
