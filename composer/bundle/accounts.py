"""`user:` and `group_add` as numbers, by the passwd and group files of the container's own root.

The rules are Docker's: `user`, `user:group`, each a name or a number; a number need not exist. The files are
a stranger's: bounded in size, and lines that make no sense are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from composer.bundle.inputs import Account
from composer.errors import NotFoundError, UsageError

LARGEST_ID = 2**31 - 1
LARGEST_FILE = 4 * 1024 * 1024
MOST_GROUPS = 65_536
"""NGROUPS_MAX, setgroups(2)."""


class User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(text: str, passwd: str, group: str, group_add: Iterable[str] = ()) -> Account:
    """Who `text` means. Raises NotFoundError for a name that does not exist, UsageError for a bad number.

    Groups that list the user as a member are added, unless `text` names a group itself.
    """
    who, colon, which = text.partition(":")
    users, groups = _users(passwd), _groups(group)
    number = _number(who or "0")
    user = next((u for u in users if u.uid == number or (number is None and u.name == who)), None)
    if number is None and user is None:
        raise NotFoundError(f"there is no user {who} in the container's /etc/passwd")
    found = user or User("", number or 0, 0, "/")
    gid, member_of = found.gid, []
    if colon and which:
        gid = _gid(which, groups)
    elif found.name:
        member_of = [g.gid for g in groups if found.name in g.members and g.gid != gid]
    extra = [*member_of, *(_gid(name, groups) for name in group_add)]
    return Account(found.uid, gid, tuple(dict.fromkeys(extra))[:MOST_GROUPS], found.home or "/")


def _gid(text: str, groups: Iterable[Group]) -> int:
    number = _number(text)
    if number is not None:
        return number
    for group in groups:
        if group.name == text:
            return group.gid
    raise NotFoundError(f"there is no group {text} in the container's /etc/group")


def _number(text: str) -> int | None:
    """None for a name. Raises UsageError for a number that is no id."""
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > 10 or int(text) > LARGEST_ID:
        raise UsageError(f"{text} is no user or group id", hint=f"the largest is {LARGEST_ID}")
    return int(text)


def _rows(text: str, width: int) -> Iterator[list[str]]:
    for line in text[:LARGEST_FILE].splitlines():
        parts = line.split(":")
        if len(parts) >= width and parts[0] and parts[0][0] not in "#+-":
            yield parts


@lru_cache(maxsize=2)  # containers of one image come one after the other
def _users(passwd: str) -> tuple[User, ...]:
    found = ((parts, _id(parts[2]), _id(parts[3])) for parts in _rows(passwd, 4))
    return tuple(
        User(parts[0], uid, gid, parts[5] if len(parts) > 5 else "")
        for parts, uid, gid in found
        if uid is not None and gid is not None
    )


@lru_cache(maxsize=2)
def _groups(group: str) -> tuple[Group, ...]:
    found = ((parts, _id(parts[2])) for parts in _rows(group, 3))
    return tuple(
        Group(parts[0], gid, tuple(parts[3].split(",")) if len(parts) > 3 else ())
        for parts, gid in found
        if gid is not None
    )


def _id(text: str) -> int | None:
    if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= LARGEST_ID:
        return int(text)
    return None
