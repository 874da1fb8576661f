"""Which change is the matter of which rule of `develop.watch`, and what follows from it. Pure but for
`compiled`, which reads .dockerignore files.

The semantics are those of https://docs.docker.com/reference/compose-file/develop/. Patterns are those of
.dockerignore: those of a rule start from its path, those of the file from the build context.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from composer.build.ignore import Ignore, read_ignore
from composer.errors import ComposerError
from composer.model.stack import Mount, Service, Stack, WatchRule
from composer.value import Value
from composer.watch.tree import Change, below

NEVER: Final = (
    *("**/.git", "**/.idea"),
    *("**/*~", "**/.*.sw?", "**/.*.sw?x", "**/4913"),  # vi and relatives
    *("**/.#*", "**/#*#"),  # Emacs
    *("**/*___jb_old___", "**/*___jb_tmp___", "**/*.kate-swp", "**/.goutputstream-*"),
)
"""What editors and git keep for themselves."""
PRIVATE: Final = Ignore(NEVER)


class Rule(Value):
    """One entry of `develop.watch`, ready to decide. `path` is absolute, without links. `copies` to `target`;
    `follow` is what then happens: restart, rebuild, exec, or nothing ("")."""

    service: str
    number: int
    path: str
    target: str
    copies: bool
    follow: str
    initial: bool
    ignore: Ignore
    include: Ignore | None
    context: str
    excluded: Ignore | None
    """By the .dockerignore of the build `context`."""

    @property
    def matter(self) -> tuple[str, ...]:
        """What it is about, whatever its place in the file and its patterns."""
        return self.service, self.path, self.target, str(self.copies), self.follow

    def takes(self, path: str, directory: bool) -> bool:
        """Whether what is at `path` counts. A directory counts, too, when something in it may."""
        inner = relative(path, self.path)
        if inner is None:
            return False
        return not inner or (
            self.allows(path, inner, directory)
            and (directory or self.include is None or self.include.ignores(inner))
        )

    def allows(self, path: str, inner: str, directory: bool) -> bool:
        from_context = relative(path, self.context) if self.context else None
        excluded = self.excluded if from_context else None
        for rules, name in ((PRIVATE, inner), (self.ignore, inner), (excluded, from_context or "")):
            if rules and rules.ignores(name) and not (directory and rules.may_keep_below(name)):
                return False
        return True

    def place(self, path: str) -> str:
        """Where it belongs in the container."""
        inner = relative(path, self.path)
        if not inner and self.target.endswith("/"):
            inner = posixpath.basename(path)
        return posixpath.normpath(posixpath.join("/", self.target, inner or "."))


class Copy(NamedTuple):
    """Something that has changed on this host and belongs to `target` in containers of the rule's service."""

    rule: Rule
    source: str
    target: str
    change: Change


class Then(NamedTuple):
    """What is done once all is quiet: `rebuild` or `restart` a service, or `exec` what rule `number` says."""

    what: str
    service: str
    number: int = -1


class Work(NamedTuple):
    """What follows from changes at once; what follows from a copy, follows when it was made."""

    copies: list[Copy]
    then: set[Then]


def then(rule: Rule) -> set[Then]:
    if not rule.follow:
        return set()
    return {Then(rule.follow, rule.service, rule.number if rule.follow == "exec" else -1)}


def decide(changes: Mapping[str, Change], rules: Sequence[Rule]) -> Work:
    """What is to be done, by every rule that a change is the matter of. Directories by themselves are only
    copied: without their files there is nothing to build or to restart for."""
    work = Work([], set())
    for path, change in sorted(changes.items()):
        for rule in rules:
            if not rule.takes(path, change.directory):
                continue
            if not rule.copies:
                work.then.update(() if change.directory else then(rule))
            elif path != rule.path or not change.directory:
                work.copies.append(Copy(rule, path, rule.place(path), change))
    return work


def relative(path: str, folder: str) -> str | None:
    """`path` as seen from `folder`, "" for itself; None when it is elsewhere."""
    if path == folder:
        return ""
    return path[len(folder.rstrip("/")) + 1 :] if below(path, folder) else None


def compiled(stack: Stack, services: Iterable[str]) -> tuple[list[Rule], list[str]]:
    """The rules of these services, and what is to be said about them. Raises ComposerError."""
    rules: list[Rule] = []
    warnings: list[str] = []
    for name in services:
        service = stack.services[name]
        for number, entry in enumerate(service.develop):
            rule = rule_of(service, number, entry)
            warnings += [f"{name}: {text}" for text in doubts(service, rule, entry)]
            if rule.copies and mounted(service, rule):
                rule = rule.replace(copies=False)
            if rule.copies or rule.follow:
                rules.append(rule)
    return rules, warnings


def rule_of(service: Service, number: int, entry: WatchRule) -> Rule:
    where = f"services.{service.name}.develop.watch[{number}]"
    if entry.action == "rebuild" and service.build is None:
        raise ComposerError(
            f"{where}: `rebuild` needs a service with `build`",
            hint="use `restart` or a `sync` action, or say how its image is built",
        )
    build = service.build
    folder = build.context if build and os.path.isabs(build.context) else ""
    action, _, follow = entry.action.rpartition("+") if "+" in entry.action else (entry.action, "", "")
    copies = action == "sync"
    return Rule(
        service=service.name,
        number=number,
        path=os.path.realpath(entry.path),
        target=entry.target,
        copies=copies,
        follow=follow if copies else action,
        initial=entry.initial_sync,
        ignore=read_ignore("\n".join(entry.ignore), f"{where}.ignore"),
        include=read_ignore("\n".join(entry.include), f"{where}.include") if entry.include else None,
        context=os.path.realpath(folder) if folder else "",
        excluded=excluded(folder, build.dockerfile if build and not build.dockerfile_inline else ""),
    )


def excluded(folder: str, dockerfile: str) -> Ignore | None:
    if not folder:
        return None
    from composer.build.site import ignore_of

    return ignore_of(folder, dockerfile)


def doubts(service: Service, rule: Rule, entry: WatchRule) -> Iterator[str]:
    """What will probably not do what was meant."""
    if not os.path.lexists(rule.path):
        yield f"there is no {entry.path} yet; it is watched from when there is"
    if not rule.copies:
        return
    mount = mount_at(service, rule.target)
    if mounted(service, rule):
        only = f"; only the {rule.follow} is done" if rule.follow else ""
        yield f"{rule.target} is {entry.path} already, by a bind mount: nothing is copied{only}"
    elif mount.read_only if mount else service.read_only:
        yield f"{rule.target} is read-only there: nothing can be copied"


def mount_at(service: Service, target: str) -> Mount | None:
    """The mount that a path in the container is on."""
    found = [mount for mount in service.volumes if inside(target, mount.target)]
    return max(found, key=lambda mount: len(posixpath.normpath(mount.target)), default=None)


def mounted(service: Service, rule: Rule) -> bool:
    """Whether the container sees the rule's path itself at its target."""
    mount = mount_at(service, rule.target)
    if mount is None or mount.type != "bind":
        return False
    inner = relative(rule.path, os.path.realpath(mount.source))
    return inner is not None and inside(posixpath.join(mount.target, inner), rule.target)


def inside(path: str, folder: str) -> bool:
    path, folder = posixpath.normpath(path), posixpath.normpath(folder)
    return path == folder or below(path, folder)
