"""Which stages a Dockerfile has, what each needs, and which of them a target needs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from composer.build.expand import ExpandError, expand
from composer.build.faults import fault
from composer.build.parse import Instruction
from composer.errors import ImageError
from composer.value import Value

NO_BASE = "scratch"
PROXIES = frozenset(
    name
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (proxy, proxy.lower())
)
"""Build arguments that need no ARG, stand in no history and change no key."""


class Stage(Value):
    """One FROM and what follows it.

    `base` is a stage's number, or the name of an image or of a named context. `uses` are the numbers of the
    stages that it is made from or copies from.
    """

    number: int
    name: str
    base: int | str
    platform: str
    begin: Instruction
    steps: tuple[Instruction, ...]
    uses: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        return self.name or f"stage-{self.number}"


class Plan(Value):
    """All stages, and the global arguments that stood before them."""

    stages: tuple[Stage, ...]
    globals: Mapping[str, str | None]

    def target(self, wanted: str) -> Stage:
        """The stage of that name or number; the last one for "". Raises ImageError."""
        if not wanted:
            return self.stages[-1]
        for stage in reversed(self.stages):
            if stage.name == wanted.lower() or (wanted.isdecimal() and stage.number == int(wanted)):
                return stage
        names = [stage.name for stage in self.stages if stage.name]
        close = get_close_matches(wanted.lower(), names, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names) or 'none with a name'}"
        raise ImageError(f"the Dockerfile has no stage {wanted!r}", hint=hint)

    def needed(self, target: Stage) -> tuple[Stage, ...]:
        """The target and all that it needs, each after what it needs itself."""
        wanted, open_ = {target.number}, [target]
        while open_:
            for number in open_.pop().uses:
                if number not in wanted:
                    wanted.add(number)
                    open_.append(self.stages[number])
        return tuple(stage for stage in self.stages if stage.number in wanted)


def plan(
    instructions: tuple[Instruction, ...],
    args: Mapping[str, str],
    platform: Mapping[str, str],
    *,
    contexts: Collection[str] = (),
    escape: str = "\\",
) -> Plan:
    """`args` are the build's arguments, `platform` TARGETOS and the like, `contexts` names of contexts,
    which win over stages. Raises DockerfileError."""
    known: dict[str, str] = dict(platform)
    declared: dict[str, str | None] = {}
    stages: list[Stage] = []
    for number, one in enumerate(instructions):
        if one.word == "ARG" and not stages:
            for name, default in one.pairs:
                value = args.get(name)
                if value is None and default is not None:
                    value = _expanded(one, default, known, escape)
                declared[name] = value if value is not None else known.get(name)
                if value is not None:
                    known[name] = value
        elif one.word == "FROM":
            steps = _steps(instructions[number + 1 :])
            stages.append(_stage(one, steps, stages, known, contexts, escape))
    return Plan(tuple(stages), declared)


def _steps(rest: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
    end = next((number for number, one in enumerate(rest) if one.word == "FROM"), len(rest))
    return rest[:end]


def _expanded(one: Instruction, text: str, known: Mapping[str, str], escape: str) -> str:
    try:
        return expand(text, known, escape)
    except ExpandError as error:
        raise fault(one.place, f"{text}: {error}") from error


def _stage(
    begin: Instruction,
    steps: tuple[Instruction, ...],
    before: list[Stage],
    known: Mapping[str, str],
    contexts: Collection[str],
    escape: str,
) -> Stage:
    image = _expanded(begin, begin.args[0], known, escape)
    if not image:
        raise fault(begin.place, f"{begin.args[0]} is empty here", "give the ARG a default before FROM")
    name = begin.args[2].lower() if len(begin.args) == 3 else ""
    if name and (not name[0].isalpha() or not all(c.isalnum() or c in "-_." for c in name)):
        raise fault(begin.place, f"{name!r} cannot be a stage's name", "letters first, then digits, - _ .")
    found = stage_of(image, before, contexts, numbers=False)
    uses = {number for one in steps for number in _sources(one, before, contexts)}
    if found is not None:
        uses.add(found)
    platform = _expanded(begin, begin.flag("platform"), known, escape)
    base: int | str = image if found is None else found
    return Stage(len(before), name, base, platform, begin, steps, tuple(sorted(uses)))


def stage_of(
    name: str, before: list[Stage] | tuple[Stage, ...], contexts: Collection[str], *, numbers: bool = True
) -> int | None:
    """The number of the stage that a name means; None: a context or an image."""
    if name in contexts:
        return None
    if numbers and name.isdecimal():
        return int(name) if int(name) < len(before) else None
    return next((stage.number for stage in reversed(before) if stage.name == name.lower()), None)


def _sources(one: Instruction, before: list[Stage], contexts: Collection[str]) -> Iterator[int]:
    """The stages that an instruction takes files from."""
    for name in sources(one):
        if "$" in name:
            raise fault(
                one.place,
                f"from={name}: variables have no value here",
                "name a stage: `FROM $image AS name`, with the ARG before the first FROM",
            )
        found = stage_of(name, before, contexts)
        if found is not None:
            yield found
        elif name.isdecimal():
            raise fault(one.place, f"there is no stage {name} before this step")


def sources(one: Instruction) -> Iterator[str]:
    """What an instruction's `from` names: stages, contexts, images."""
    if one.word == "COPY" and one.flag("from"):
        yield one.flag("from")
    for text in one.every("mount"):
        for part in text.split(","):
            key, _, value = part.partition("=")
            if key == "from" and value:
                yield value.strip("\"'")
