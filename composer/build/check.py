"""What is doubtful in a Dockerfile, under the names of BuildKit's rules; the directive `check`. Pure.

https://docs.docker.com/reference/build-checks/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from composer.build.faults import DockerfileError, fault
from composer.build.lex import Source
from composer.build.parse import Instruction
from composer.errors import Complaint, Place

Found = Iterator[tuple[Instruction, str]]
ELSEWHERE = frozenset(
    (
        "CopyIgnoredFile",
        "DuplicateStageName",
        "ExposeInvalidFormat",
        "InvalidBaseImagePlatform",
        "InvalidDefaultArgInFrom",
        "InvalidDefinitionDescription",
        "NoEmptyContinuation",
        "ReservedStageName",
        "UndefinedArgInFrom",
        "UndefinedVar",
    )
)
"""Rules of BuildKit that are errors here, or that are not looked at; a directive may name them."""
_SECRET = re.compile(r"(?i)(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)")
_PUBLIC = re.compile(r"(?i)(?:^|_)public(?:_|$)")


def checked(source: Source, instructions: tuple[Instruction, ...]) -> list[Complaint]:
    """Warnings in the order of the file. Raises DockerfileError when the directive says so."""
    skipped, strict = _directive(source)
    found = [
        Complaint(f"{name}: {text}", one.place, warning=not strict)
        for name, rule in RULES.items()
        if name.lower() not in skipped and "all" not in skipped
        for one, text in rule(instructions)
    ]
    found.sort(key=lambda complaint: complaint.place.line if complaint.place else 0)
    if strict and found:
        raise DockerfileError(found)
    return found


def _directive(source: Source) -> tuple[set[str], bool]:
    """`skip=Rule,Rule;error=true`: the rules to skip in small letters, and whether warnings are errors."""
    skipped: set[str] = set()
    strict = False
    known = {name.lower() for name in (*RULES, *ELSEWHERE)} | {"all"}
    for part in filter(None, source.check.split(";")):
        key, _, value = (text.strip() for text in part.partition("="))
        place = Place(source.file, 1, 1)
        if key == "skip":
            skipped = {name.strip().lower() for name in value.split(",")}
            if unknown := sorted(skipped - known):
                raise fault(place, f"check: there is no rule {unknown[0]}", f"there are {', '.join(RULES)}")
        elif key == "error" and value in ("true", "false"):
            strict = value == "true"
        elif key != "experimental":
            raise fault(
                place, f"check={part} is not known", "as in check=skip=JSONArgsRecommended;error=true"
            )
    return skipped, strict


# Rules


def _stages(instructions: tuple[Instruction, ...]) -> Iterator[list[Instruction]]:
    stage: list[Instruction] = []
    for one in instructions:
        if one.word == "FROM" and stage:
            yield stage
            stage = []
        stage.append(one)
    yield stage


def _written(one: Instruction) -> str:
    return one.text.split(None, 1)[0]


def _stage_name(every: tuple[Instruction, ...]) -> Found:
    for one in every:
        if one.word == "FROM" and len(one.args) == 3 and one.args[2] != one.args[2].lower():
            yield one, f"the stage {one.args[2]} is better written in small letters"


def _as(every: tuple[Instruction, ...]) -> Found:
    for one in every:
        if one.word == "FROM" and len(one.args) == 3 and one.args[1].isupper() != _written(one).isupper():
            yield one, f"{_written(one)} and {one.args[1]} are not written alike"


def _casing(every: tuple[Instruction, ...]) -> Found:
    upper = sum(_written(one).isupper() for one in every) * 2 >= len(every)
    for one in every:
        word = _written(one)
        if not (word.isupper() if upper else word.islower()):
            yield one, f"{word} is not written like the other instructions"


def _json(every: tuple[Instruction, ...]) -> Found:
    for stage in _stages(every):
        shell = False
        for one in stage:
            shell = shell or one.word == "SHELL"
            if one.word in ("CMD", "ENTRYPOINT") and one.args and not one.json and not shell:
                yield (
                    one,
                    f"{one.word} without a list runs in a shell, which gets the signals",
                )


def _several(every: tuple[Instruction, ...]) -> Found:
    for stage in _stages(every):
        for word in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
            for one in [one for one in stage if one.word == word][:-1]:
                yield one, f"only the last {word} of a stage has an effect"


def _maintainer(every: tuple[Instruction, ...]) -> Found:
    for one in every:
        if one.word == "MAINTAINER":
            yield one, f"use a label: LABEL org.opencontainers.image.authors={one.args[0]!r}"


def _workdir(every: tuple[Instruction, ...]) -> Found:
    for stage in _stages(every):
        below = False
        for one in stage:
            if one.word == "WORKDIR":
                if not below and not one.args[0].startswith(("/", "$")):
                    yield one, f"{one.args[0]} starts from wherever the base image is"
                below = True


def _pairs(every: tuple[Instruction, ...]) -> Found:
    for one in every:
        if one.word in ("ENV", "LABEL") and "=" not in one.text.split()[1]:
            yield one, f"`{one.word} name=value` is today's form"


def _platform(every: tuple[Instruction, ...]) -> Found:
    for one in every:
        if one.word == "FROM" and one.flag("platform") in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield one, "--platform=$TARGETPLATFORM is what happens without it"


def _constant(every: tuple[Instruction, ...]) -> Found:
    for one in every:
        wanted = one.flag("platform") if one.word == "FROM" else ""
        if wanted and "$" not in wanted:
            yield one, f"--platform={wanted} builds for one machine only"


def _secrets(every: tuple[Instruction, ...]) -> Found:
    for one in every:
        for name, _ in one.pairs if one.word in ("ARG", "ENV") else ():
            if _SECRET.search(name) and not _PUBLIC.search(name):
                yield one, f"{one.word} {name} stays in the image: use RUN --mount=type=secret"


def _expose(every: tuple[Instruction, ...]) -> Found:
    for one in every:
        for port in one.args if one.word == "EXPOSE" else ():
            if "$" not in port and port != port.lower():
                yield one, f"the protocol of {port} is better written in small letters"


RULES: dict[str, Callable[[tuple[Instruction, ...]], Found]] = {
    "ConsistentInstructionCasing": _casing,
    "ExposeProtoCasing": _expose,
    "FromAsCasing": _as,
    "FromPlatformFlagConstDisallowed": _constant,
    "JSONArgsRecommended": _json,
    "LegacyKeyValueFormat": _pairs,
    "MaintainerDeprecated": _maintainer,
    "MultipleInstructionsDisallowed": _several,
    "RedundantTargetPlatform": _platform,
    "SecretsUsedInArgOrEnv": _secrets,
    "StageNameCasing": _stage_name,
    "WorkdirRelativePath": _workdir,
}
