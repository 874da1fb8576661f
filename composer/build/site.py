"""What one build has at hand: its Dockerfile as a plan, the sources of files, base images. K.

Base images are looked up here and never fetched: what is missing is an exception that says its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from composer.build.cache import Cache
from composer.build.check import Script, doubts, policy_of
from composer.build.context import Folder, Source
from composer.build.faults import fault
from composer.build.fetch import Fetcher
from composer.build.ignore import Ignore, read_ignore
from composer.build.lex import LARGEST, lex
from composer.build.parse import Instruction, parse
from composer.build.request import BUILTIN, Request
from composer.build.snapshot import Snapshot
from composer.build.stages import NO_BASE, PROXIES, Plan, Stage, plan, sources, stage_of
from composer.errors import ImageError
from composer.images import config as formats
from composer.images.builtin import NAMES
from composer.images.image import Image
from composer.images.store import Store

IMAGE = "docker-image://"


class Missing(Exception):
    """A base image is not on this host."""

    def __init__(self, reference: str) -> None:
        super().__init__(reference)
        self.reference = reference


class Site:
    """Read from the request at once; all that is wrong with the Dockerfile is raised then."""

    def __init__(self, request: Request, cache: Cache, store: Store, environment: Mapping[str, str]) -> None:
        self.request, self.cache, self.store = request, cache, store
        self.epoch = epoch_of(request.args.get("SOURCE_DATE_EPOCH") or environment.get("SOURCE_DATE_EPOCH"))
        self.fetcher = Fetcher(cache, request.secret)
        self.folder = self.fetcher.folder(request.context, keep_git=request.builtin("CONTEXT_KEEP_GIT_DIR"))
        text, self.file = self._dockerfile()
        self.lines = lex(text, self.file)
        instructions = parse(self.lines)
        self.platform = platform_arguments(request, instructions)
        self.policy = policy_of(self.lines, request.args)
        self.doubts = self.policy.told(doubts(Script(instructions, self.platform, self.lines.escape)))
        self.plan: Plan = plan(
            instructions,
            request.args,
            self.platform,
            contexts=request.contexts,
            escape=self.lines.escape,
        )
        self.target = self.plan.target(request.target)
        self.results: dict[int, Any] = {}
        """Of finished stages, by number: a `walk.State`."""
        self._images: dict[str, Image] = {}
        self._sources: dict[str, Source] = {}

    def _dockerfile(self) -> tuple[bytes, str]:
        request = self.request
        if request.inline:
            return request.inline.encode(), f"{request.name}: dockerfile_inline"
        path = os.path.join(self.folder, request.dockerfile)
        try:
            with open(path, "rb") as file:
                return file.read(LARGEST + 1), shown(path)
        except IsADirectoryError:
            raise ImageError(f"{path} is a directory, not a Dockerfile") from None
        except OSError as error:
            raise ImageError(
                f"service {request.name}: cannot read {path}: {error.strerror}",
                hint="`build.dockerfile` names it, relative to `build.context`",
            ) from error

    # Images

    def image(self, reference: str) -> Image:
        """Raises Missing."""
        if reference not in self._images:
            image = self.store.find(reference)
            if image is None:
                raise Missing(reference)
            self._images[reference] = image
        return self._images[reference]

    def missing(self, stage: Stage) -> str:
        """The image that a stage begins from, if it is not on this host. Raises DockerfileError."""
        try:
            self.base(stage)
        except Missing as missing:
            return missing.reference
        return ""

    def suppose(self, reference: str, config: Mapping[str, Any]) -> None:
        """Take an image as being here: for those who only look."""
        self._images[reference] = Image(reference, reference, config, ())

    def base(self, stage: Stage) -> Image | None:
        """The image that a stage begins from; None for another stage. Raises DockerfileError, Missing."""
        if isinstance(stage.base, int):
            return None
        reference = self.request.contexts.get(stage.base, stage.base)
        place = stage.begin.place
        if stage.platform:
            wanted, here = formats.platform(stage.platform), formats.platform()
            if wanted != here:
                raise fault(place, f"--platform={wanted}: nothing of another machine runs here, only {here}")
        if reference != stage.base and not reference.startswith(IMAGE):
            raise fault(place, f"the context {stage.base} is a folder, and FROM needs an image or a stage")
        return self.image(reference.removeprefix(IMAGE))

    def snapshot(self, image: Image) -> Snapshot:
        identity = image.id
        if identity in NAMES and identity != NO_BASE:
            identity = Path(image.root[0].lowers[0]).name
        return Snapshot(image.root, identity)

    def images(self) -> Iterator[str]:
        """The images that the target's stages are made from and take files from."""
        contexts = self.request.contexts
        for stage in self.plan.needed(self.target):
            names = [stage.base] if isinstance(stage.base, str) else []
            for name in (*names, *(name for one in stage.steps for name in sources(one))):
                if name in contexts and not contexts[name].startswith(IMAGE):
                    continue
                if name in contexts or stage_of(name, self.plan.stages, contexts) is None:
                    yield contexts.get(name, name).removeprefix(IMAGE)

    # Sources of files

    def source(self, name: str) -> Source:
        """The tree that `from` names; "" is the build's context. Raises ImageError, Missing."""
        if name not in self._sources:
            self._sources[name] = self._source(name)
        return self._sources[name]

    def _source(self, name: str) -> Source:
        if not name:
            return Folder(self.folder, self._ignore(), self.cache)
        if name in self.request.contexts:
            text = self.request.contexts[name]
            if not text.startswith(IMAGE):
                folder = self.fetcher.folder(text)
                return Folder(folder, _read_ignore(f"{folder}/.dockerignore"), self.cache)
            return self._of(self.snapshot(self.image(text.removeprefix(IMAGE))))
        number = stage_of(name, self.plan.stages, self.request.contexts)
        if number is not None and number in self.results:
            return self._of(self.results[number].snapshot)
        return self._of(self.snapshot(self.image(name)))

    def _of(self, snapshot: Snapshot) -> Source:
        return Source(snapshot.overlays(), identity=snapshot.identity)

    def _ignore(self) -> Ignore | None:
        """The rules for this Dockerfile: its own file's before the folder's."""
        return ignore_of(self.folder, "" if self.request.inline else self.request.dockerfile)

    def save(self) -> None:
        """Keep what was learnt about the user's files."""
        for source in self._sources.values():
            if isinstance(source, Folder):
                source.save()


def ignore_of(folder: str, dockerfile: str) -> Ignore | None:
    """What a build context leaves out; `dockerfile` is "" for one without a file. Raises ImageError."""
    own = _read_ignore(os.path.join(folder, f"{dockerfile}.dockerignore")) if dockerfile else None
    return own if own is not None else _read_ignore(f"{folder}/.dockerignore")


def _read_ignore(path: str) -> Ignore | None:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > LARGEST:
        raise ImageError(f"{path} is larger than {LARGEST >> 20} MiB")
    return read_ignore(data.decode(errors="surrogateescape"), path)


def shown(path: str) -> str:
    """A path for messages: relative where that is shorter to read."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def epoch_of(text: str | None) -> int | None:
    """SOURCE_DATE_EPOCH: seconds. https://reproducible-builds.org/specs/source-date-epoch/"""
    if not text:
        return None
    if not text.isdecimal() or len(text) > 11:
        raise ImageError(f"SOURCE_DATE_EPOCH={text} is no number of seconds")
    return int(text)


def platform_arguments(request: Request, instructions: tuple[Instruction, ...]) -> dict[str, str]:
    """TARGETOS and the like; what builds and what is built are the same here. Build arguments win."""
    last = [one for one in instructions if one.word == "FROM"][-1]
    here = formats.platform()
    parts = {"PLATFORM": str(here), "OS": here.os, "ARCH": here.architecture, "VARIANT": here.variant}
    found = {f"{who}{part}": value for who in ("TARGET", "BUILD") for part, value in parts.items()}
    found["TARGETSTAGE"] = request.target or (last.args[2].lower() if len(last.args) == 3 else "")
    return {name: request.args.get(name, value) for name, value in found.items()}


def unused_arguments(site: Site) -> list[str]:
    """Build arguments that no ARG of the Dockerfile takes."""
    taken = {
        name
        for stage in site.plan.stages
        for one in stage.steps
        for name, _ in one.pairs
        if one.word == "ARG"
    }
    known = taken | set(site.plan.globals) | PROXIES | set(site.platform) | BUILTIN
    return sorted(name for name in site.request.args if name not in known)
