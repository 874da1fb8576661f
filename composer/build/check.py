"""What is doubtful in a Dockerfile, under the names of BuildKit's rules; the directive `check`. Pure.

https://docs.docker.com/reference/build-checks/. Rules that need the build's context or its base images are
in `survey`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches

from composer.build.expand import ExpandError, expand
from composer.build.faults import DockerfileError, fault
from composer.build.lex import Source, split
from composer.build.parse import Instruction
from composer.errors import Complaint, ImageError, Place
from composer.images.config import platform
from composer.images.reference import parse
from composer.value import Value

ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument that stands for the directive."""
SURVEYED = ("CopyIgnoredFile", "InvalidBaseImagePlatform", "UndefinedVar")
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))
"""Rules that are looked at only where `experimental=` asks for them."""
_RESERVED = ("context", "scratch")
_SECRET = re.compile(r"(?i)(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)")
_PUBLIC = re.compile(r"(?i)(?:^|_)(?:public|file|version)(?:_|$)")


class Script(Value):
    """What the rules look at: all instructions, and the arguments that have a value in every Dockerfile."""

    every: tuple[Instruction, ...]
    platform: Mapping[str, str]
    escape: str = "\\"

    @property
    def stages(self) -> Iterator[list[Instruction]]:
        stage: list[Instruction] = []
        for one in self.every:
            if one.word == "FROM" and stage:
                yield stage
                stage = []
            stage.append(one)
        yield stage

    def of(self, *words: str) -> Iterator[Instruction]:
        return (one for one in self.every if one.word in words)

    @property
    def named(self) -> Iterator[Instruction]:
        """Each FROM that gives its stage a name."""
        return (one for one in self.of("FROM") if len(one.args) == 3)


Found = Iterator[tuple[Instruction, str]]
Doubt = tuple[str, Instruction, str]
"""A rule's name, where it is about, what is doubtful."""


class Policy(Value):
    """Which rules count, in small letters, and whether what they find is an error."""

    skipped: frozenset[str] = frozenset()
    tried: frozenset[str] = frozenset()
    strict: bool = False

    def told(self, doubts: Iterable[Doubt]) -> list[Complaint]:
        """Warnings in the order of the file. Raises DockerfileError when the directive says so."""
        found = [
            Complaint(f"{name}: {text}", one.place, warning=not self.strict)
            for name, one, text in doubts
            if self._counts(name, one)
        ]
        found.sort(key=lambda complaint: complaint.place.line if complaint.place else 0)
        if self.strict and found:
            raise DockerfileError(found)
        return found

    def _counts(self, name: str, one: Instruction) -> bool:
        """A comment `check=skip=…` right above an instruction is about that one alone."""
        skipped, tried = set(self.skipped), set(self.tried)
        for comment in one.comments:
            text = comment.removeprefix("check=").split()
            if comment.startswith("check=") and text:
                with suppress(DockerfileError):  # a comment is a comment
                    near = policy(text[0], one.place)
                    skipped |= near.skipped
                    tried |= near.tried
        if name in EXPERIMENTAL:
            return not tried.isdisjoint((name.lower(), "all"))
        return skipped.isdisjoint((name.lower(), "all"))


def policy(text: str, place: Place) -> Policy:
    """`skip=Rule,Rule;experimental=all;error=true`. Raises DockerfileError."""
    found = Policy()
    for part in filter(None, text.split(";")):
        key, _, value = (text.strip() for text in part.partition("="))
        names = frozenset(name.strip().lower() for name in value.split(","))
        if key == "skip":
            found = found.replace(skipped=names)
        elif key == "experimental":
            found = found.replace(tried=names)
        elif key == "error" and value.lower() in ("true", "false"):
            found = found.replace(strict=value.lower() == "true")
        else:
            raise fault(
                place, f"check={part} is not known", "as in check=skip=JSONArgsRecommended;error=true"
            )
        if key != "error" and (unknown := sorted(names - _KNOWN)):
            raise fault(place, f"check: there is no rule {unknown[0]}", f"there are {', '.join(NAMES)}")
    return found


def policy_of(source: Source, args: Mapping[str, str]) -> Policy:
    """What the Dockerfile's directive says, or the build argument before it. Raises DockerfileError."""
    return policy(args.get(ARGUMENT) or source.check, Place(source.file, 1, 1))


def doubts(script: Script) -> Iterator[Doubt]:
    return ((name, one, text) for name, rule in RULES.items() for one, text in rule(script))


# Rules


def _written(one: Instruction) -> str:
    return one.text.split(None, 1)[0]


def _stage_name(script: Script) -> Found:
    for one in script.named:
        if one.args[2] != one.args[2].lower():
            yield one, f"the stage {one.args[2]} is better written in small letters"


def _reserved(script: Script) -> Found:
    for one in script.named:
        if one.args[2].lower() in _RESERVED:
            yield one, f"{one.args[2]} means something else to those who read it"


def _twice(script: Script) -> Found:
    seen: set[str] = set()
    for one in script.named:
        name = one.args[2].lower()
        if name in seen:
            yield one, f"there is a stage {name} before it, which nothing below can name"
        seen.add(name)


def _as(script: Script) -> Found:
    for one in script.named:
        word = _written(one)
        if word in (word.upper(), word.lower()) and one.args[1].isupper() != word.isupper():
            yield one, f"{word} and {one.args[1]} are not written alike"


def _casing(script: Script) -> Found:
    """As most are written. What is written neither way counts for neither."""
    stages = [one for stage in script.stages for one in stage if stage[0].word == "FROM"]
    words = [_written(one) for one in stages]
    lower = sum(word.islower() for word in words) > sum(word.isupper() for word in words)
    for one, word in zip(stages, words, strict=True):
        if not (word.islower() if lower else word.isupper()):
            yield one, f"{word} is not written like the other instructions"


def _empty(script: Script) -> Found:
    for one in script.every:
        if one.gap:
            yield one, "an empty line among its continuations, which will be an error in Docker"


def _json(script: Script) -> Found:
    for stage in script.stages:
        shell = False
        for one in stage:
            shell = shell or one.word == "SHELL"
            if one.word in ("CMD", "ENTRYPOINT") and one.args and not one.json and not shell:
                yield one, f"{one.word} without a list runs in a shell, which gets the signals"


def _several(script: Script) -> Found:
    for stage in script.stages:
        for word in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
            for one in [one for one in stage if one.word == word][:-1]:
                yield one, f"only the last {word} of a stage has an effect"


def _maintainer(script: Script) -> Found:
    for one in script.of("MAINTAINER"):
        yield one, f"use a label: LABEL org.opencontainers.image.authors={one.args[0]!r}"


def _workdir(script: Script) -> Found:
    for stage in script.stages:
        below = False
        for one in stage:
            if one.word == "WORKDIR":
                if not below and not one.args[0].startswith(("/", "$")):
                    yield one, f"{one.args[0]} starts from wherever the base image is"
                below = True


def _pairs(script: Script) -> Found:
    for one in script.of("ENV", "LABEL"):
        if "=" not in split(one.text.split(None, 1)[1], script.escape)[0]:
            yield one, f"`{one.word} name=value` is today's form"


def _platform(script: Script) -> Found:
    for one in script.of("FROM"):
        if one.flag("platform") in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield one, "--platform=$TARGETPLATFORM is what happens without it"


def _constant(script: Script) -> Found:
    """A stage that is named after its machine is meant for that one."""
    for one in script.of("FROM"):
        wanted = one.flag("platform")
        try:
            machine = platform(wanted) if wanted and "$" not in wanted else None
        except ImageError:  # told when it is built
            continue
        name = one.args[2] if len(one.args) == 3 else ""
        if machine and machine.os not in name and machine.architecture not in name:
            yield one, f"--platform={wanted} builds for one machine only"


def _secrets(script: Script) -> Found:
    for one in script.of("ARG", "ENV"):
        for name, _ in one.pairs:
            if _SECRET.search(name) and not _PUBLIC.search(name):
                yield one, f"{one.word} {name} stays in the image: use RUN --mount=type=secret"


def _expose_casing(script: Script) -> Found:
    for one in script.of("EXPOSE"):
        for port in one.args:
            if "$" not in port and port != port.lower():
                yield one, f"the protocol of {port} is better written in small letters"


def _expose_form(script: Script) -> Found:
    for one in script.of("EXPOSE"):
        for port in one.args:
            if ":" in re.sub(r"\$\{.*?\}", "", port):
                yield one, f"{port}: an address or a port of the host has no effect here"


def _described(script: Script) -> Found:
    for one in script.of("FROM", "ARG"):
        names = [name for name, _ in one.pairs] or list(one.args[2:3])
        said = [text for text in one.comments if not text.startswith("check=")]
        if names and said and said[-1].split()[0] not in names:
            yield one, f"the comment above describes it when it begins with {' or '.join(names)}"


class Missed(dict[str, str]):
    """Variables; `missed` takes the names that are looked for and are not there."""

    def __init__(self, known: Mapping[str, str], missed: set[str]) -> None:
        super().__init__(known)
        self.missed = missed

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        if name not in self:
            self.missed.add(name)
        return super().get(name, default)


def _globals(script: Script) -> Iterator[tuple[Instruction, dict[str, str], set[str]]]:
    """Each FROM, with the arguments before it by their defaults alone, and the names of all of them."""
    known, declared = dict(script.platform), set(script.platform)
    begun = False
    for one in script.every:
        if one.word == "FROM":
            begun = True
            yield one, known, declared
        elif not begun and one.word == "ARG":
            for name, default in one.pairs:
                declared.add(name)
                if default is not None:
                    known[name] = expand(default, known, script.escape)


def _from_arguments(script: Script) -> Found:
    for one, _, declared in _globals(script):
        missed: set[str] = set()
        for text in (one.args[0], one.flag("platform")):
            expand(text, Missed(dict.fromkeys(declared, ""), missed), script.escape)
        for name in sorted(missed):
            yield one, f"no ARG before the first FROM gives {name} a value{meant(name, declared)}"


def _from_defaults(script: Script) -> Found:
    for one, known, _ in _globals(script):
        if "$" in one.args[0]:
            text = expand(one.args[0], known, script.escape)
            try:
                parse(text)
            except ImageError:
                yield one, f"by the defaults of the ARGs alone {one.args[0]} is {text!r}, which is no image"


def meant(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), 1)
    return f": did you mean {close[0]}?" if close else ""


def _careful(rule: Callable[[Script], Found]) -> Callable[[Script], Found]:
    """What cannot be expanded is told with its place when the stages are read."""

    def run(script: Script) -> Found:
        try:
            yield from rule(script)
        except ExpandError:
            return

    return run


RULES: dict[str, Callable[[Script], Found]] = {
    "ConsistentInstructionCasing": _casing,
    "DuplicateStageName": _twice,
    "ExposeInvalidFormat": _expose_form,
    "ExposeProtoCasing": _expose_casing,
    "FromAsCasing": _as,
    "FromPlatformFlagConstDisallowed": _constant,
    "InvalidDefaultArgInFrom": _careful(_from_defaults),
    "InvalidDefinitionDescription": _described,
    "JSONArgsRecommended": _json,
    "LegacyKeyValueFormat": _pairs,
    "MaintainerDeprecated": _maintainer,
    "MultipleInstructionsDisallowed": _several,
    "NoEmptyContinuation": _empty,
    "RedundantTargetPlatform": _platform,
    "ReservedStageName": _reserved,
    "SecretsUsedInArgOrEnv": _secrets,
    "StageNameCasing": _stage_name,
    "UndefinedArgInFrom": _careful(_from_arguments),
    "WorkdirRelativePath": _workdir,
}
NAMES = (*sorted((*RULES, *SURVEYED)), "all")
_KNOWN = frozenset(name.lower() for name in NAMES)
