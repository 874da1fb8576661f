"""What is doubtful in a stage once its base image is known: a walk that changes nothing. K: reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from posixpath import normpath
from typing import TYPE_CHECKING, Any, NamedTuple

from composer.build.check import Doubt, Missed, meant
from composer.build.stages import sources, stage_of
from composer.build.walk import CopyJob, Hands, State, Walk
from composer.images import config as formats

if TYPE_CHECKING:
    from composer.build.mounts import RunMount
    from composer.build.parse import Instruction
    from composer.build.site import Site
    from composer.build.stages import Stage
    from composer.errors import Complaint

_EVERYTHING = {"*", "**", "**/*"}


class Surveyed(NamedTuple):
    """`uses`: the stages that what the base image keeps for those who build on it takes files from."""

    state: State
    doubts: list[Complaint]
    uses: frozenset[int]


def survey(site: Site, stage: Stage, before: Mapping[int, State]) -> Surveyed:
    """Where a stage comes to, but for files, and what is doubtful on the way.

    `before` are the surveys of the stages that it uses. Raises Missing; DockerfileError for what is wrong,
    and for what is doubtful where the Dockerfile says so.
    """
    walk = _Survey(site, stage, before)
    state = walk.run()
    earlier, contexts = site.plan.stages[: stage.number], site.request.contexts
    named = (stage_of(name, earlier, contexts) for one in walk.triggered for name in sources(one))
    return Surveyed(state, site.policy.told(walk.doubts), frozenset(n for n in named if n is not None))


class _Survey(Walk):
    def __init__(self, site: Site, stage: Stage, before: Mapping[int, State]) -> None:
        super().__init__(site, stage, lambda _: None, None, lookup=False)
        self.results = before
        self.doubts: list[Doubt] = []
        self.missed: set[str] = set()
        self.one = stage.begin

    def begin(self) -> State:
        state = super().begin()
        has, here = formats.platform_of(state.config), formats.platform()
        same = (has.os, has.architecture) == (here.os, here.architecture)
        if isinstance(self.stage.base, str) and has.architecture and not same:
            text = f"{self.stage.base} is an image for {has}, and this machine is {here}"
            self.doubts.append(("InvalidBaseImagePlatform", self.stage.begin, text))
        return state

    def step(self, one: Instruction) -> None:
        self.one = one
        self.missed.clear()
        super().step(one)
        for name in sorted(self.missed - self.state.args.keys()):
            text = f"${name} has no value here{meant(name, self.variables)}"
            self.doubts.append(("UndefinedVar", one, text))

    @property
    def variables(self) -> Mapping[str, str]:
        return Missed(super().variables, self.missed)

    def digest(self, job: CopyJob) -> str:
        ignore = self.site.source("").ignore
        for source in () if job.origin or ignore.negates else job.sources:
            path = normpath(f"/{source}").lstrip("/")
            if ignore.ignores(path) if path else any(rule[2] in _EVERYTHING for rule in ignore.rules):
                text = f"{source} is not in the build context: .dockerignore leaves it out"
                self.doubts.append(("CopyIgnoredFile", self.one, text))
        return ""

    def input_of(self, mount: RunMount) -> list[Any]:
        return []

    def linked(self, job: CopyJob) -> CopyJob:
        return job

    def change(
        self,
        one: Instruction,
        key: str,
        do: Callable[[Hands, Path], Path | None],
        text: str = "",
    ) -> None:
        """Files are as they are."""
