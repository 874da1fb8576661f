"""A stage, step by step: what each depends on as a key, its result from the cache or from doing it.

A walk without hands only looks: it ends with `Undone` at the first step that was not done before. Whoever
walks the same stage again after somebody with hands has done so comes to its end.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from composer.build import settings
from composer.build.cache import Done, key_of
from composer.build.expand import ExpandError, expand, expand_heredoc
from composer.build.faults import fault
from composer.build.ignore import Ignore, patterns
from composer.build.lex import Line, heredoc
from composer.build.mounts import RunMount, run_mount
from composer.build.parse import Instruction, Wrong, instruction
from composer.build.snapshot import Snapshot
from composer.build.stages import NO_BASE, PROXIES, Stage
from composer.errors import ComposerError
from composer.images.builtin import NAMES, PATH
from composer.layered import Node
from composer.offline import is_offline
from composer.value import Value

if TYPE_CHECKING:
    from composer.build.run import Job
    from composer.build.site import Site
    from composer.build.travel import Traveller

NETWORKS = ("", "default", "host", "none")
CHANGES_FILES = frozenset(("RUN", "COPY", "ADD", "WORKDIR"))


HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"
SCRIPT = "/run/build-script"
"""Where a step that is a script of its own finds itself."""


class Undone(Exception):
    """A step has to be carried out."""


class Event(Value):
    """Something about one step. `status`: start, output, done, cached, error; `seconds` since its start."""

    step: str
    title: str
    status: str
    text: str = ""
    seconds: float = 0.0


Tell = Callable[[Event], None]


class Standing(NamedTuple):
    """A directory that the tree has already, on the way to the target of a COPY --link."""

    path: str
    mode: int
    uid: int
    gid: int


class CopyJob(Value):
    """What COPY and ADD are to do. `sources` are patterns in the tree that `origin` names."""

    target: str
    origin: str = ""
    sources: tuple[str, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()
    urls: tuple[str, ...] = ()
    chown: str = ""
    chmod: str = ""
    exclude: tuple[str, ...] = ()
    parents: bool = False
    unpack: bool | None = None
    """None: archives of the context, as ADD does; True: downloads too; False: nothing."""
    checksum: str = ""
    keep_git: bool = False
    link: tuple[Standing, ...] | None = None
    """Not None: into a layer that knows nothing of the tree but these directories."""


class Hands(Protocol):
    """Who carries steps out: each gives the directory of what changed, None for nothing."""

    def run(
        self, snapshot: Snapshot, job: Job, place: Path, output: Callable[[str], None]
    ) -> Path | None: ...

    def copy(self, snapshot: Snapshot, job: CopyJob, place: Path) -> Path | None: ...

    def folder(self, snapshot: Snapshot, path: str, user: str, place: Path) -> Path | None: ...


class State:
    """Where a stage has come to: its tree, the image configuration, the history, the key of all that."""

    def __init__(self, snapshot: Snapshot, config: Mapping[str, Any]) -> None:
        self.snapshot = snapshot
        self.args: dict[str, str | None] = {}
        """Build arguments in scope; None: declared, and without a value."""
        self.config = dict(config)
        """The base image's configuration: what is not said anew stays."""
        self.process: dict[str, Any] = dict(config.get("config") or {})
        self.history: list[dict[str, Any]] = list(config.get("history") or [])
        self.created: str = config.get("created") or ""
        self.author: str = config.get("author") or ""
        self.layers: tuple[str, ...] = ()
        self.steps: tuple[tuple[str, str, str], ...] = ()
        """Key, layer and time of each step that may have changed files."""
        self.key = key_of("base", *snapshot.identity)
        self.image_base: str = ""
        """The reference of the image at the bottom."""
        self.on_host = False
        """Whether the host's own /usr is below all layers."""

    def copy(self) -> State:
        other = object.__new__(State)
        other.__dict__.update(self.__dict__)
        other.history, other.args = list(self.history), dict(self.args)
        return other


class Walk:
    """One way through one stage."""

    def __init__(self, site: Site, stage: Stage, tell: Tell, hands: Hands | None, *, lookup: bool) -> None:
        self.site, self.stage, self.tell, self.hands, self.lookup = site, stage, tell, hands, lookup
        self.escape = site.lines.escape
        self.results: Mapping[int, State] = site.results
        self.own_command = False
        self.triggered: tuple[Instruction, ...] = ()
        self.count = 0
        self.travellers: list[Traveller] | None = None
        self.total = sum(one.word in CHANGES_FILES for one in stage.steps)

    def run(self) -> State:
        """To the stage's end. Raises Undone, Missing, ComposerError."""
        self.state = self.begin()
        triggers = list(self.state.process.pop("OnBuild", None) or ())
        self.triggered = tuple(self.trigger(text) for text in triggers)
        self.total += sum(one.word in CHANGES_FILES for one in self.triggered)
        for one in (*self.triggered, *self.stage.steps):
            self.step(one)
        return self.state

    def begin(self) -> State:
        image = self.site.base(self.stage)
        if image is None:
            assert isinstance(self.stage.base, int)
            state = self.results[self.stage.base].copy()
            state.process = dict(state.process)
            return state
        state = State(self.site.snapshot(image), image.config)
        state.image_base = image.reference if image.id in NAMES else image.id
        state.on_host = len(image.root) > 1
        if image.id == NO_BASE:
            state.process = {"Env": [f"PATH={PATH}"], "WorkingDir": "/"}  # as Docker begins an empty image
        return state

    def trigger(self, text: str) -> Instruction:
        """An instruction that the base image kept for those who build on it."""
        place = self.stage.begin.place
        try:
            return instruction(Line(text, place.line), place)
        except Wrong as error:
            raise fault(place, f"the base image's ONBUILD {text}: {error.message}", error.hint) from error

    def step(self, one: Instruction) -> None:
        try:
            METHODS.get(one.word, Walk.setting)(self, one)
        except Wrong as error:
            raise fault(one.place, error.message, error.hint) from error
        except ExpandError as error:
            raise fault(one.place, str(error)) from error

    # Words

    @property
    def arguments(self) -> dict[str, str]:
        return {name: value for name, value in self.state.args.items() if value is not None}

    @property
    def variables(self) -> Mapping[str, str]:
        return {**self.arguments, **settings.environment(self.state.process)}

    def expand(self, text: str) -> str:
        return expand(text, self.variables, self.escape)

    def words(self, one: Instruction) -> list[str]:
        """The arguments with variables replaced; names and values in turn for pairs."""
        if one.pairs:
            known = self.variables  # as before this line: one pair does not see another
            pairs = ((name, value or "") for name, value in one.pairs)
            return [expand(text, known, self.escape) for pair in pairs for text in pair]
        if one.word in ("CMD", "ENTRYPOINT", "HEALTHCHECK", "ONBUILD", "SHELL"):
            return list(one.args)
        return [self.expand(text) for text in one.args]

    # Instructions that change no file

    def setting(self, one: Instruction) -> None:
        self.state.process = settings.apply(self.state.process, one, self.words(one))
        if one.word == "CMD":
            self.own_command = True
        if one.word == "ENTRYPOINT" and not self.own_command:
            self.state.process.pop("Cmd", None)
        self.remember(one.text, empty=True)

    def argument(self, one: Instruction) -> None:
        """A build argument: what the build was given, else its default, else the global one of that name."""
        given = self.site.request.args
        for name, default in one.pairs:
            value = given.get(name)
            if value is None and default is not None:
                value = self.expand(default)
            if value is None:
                value = self.site.plan.globals.get(name) or self.site.platform.get(name)
            self.state.args[name] = value
        self.remember(one.text, empty=True)

    def maintainer(self, one: Instruction) -> None:
        self.state.author = one.args[0]
        self.remember(one.text, empty=True)

    def remember(self, text: str, *, empty: bool) -> None:
        step: dict[str, Any] = {"created": self.state.created, "created_by": text}
        if empty:
            step["empty_layer"] = True
        self.state.history.append(step)

    # Instructions that change files

    def workdir(self, one: Instruction) -> None:
        self.state.process = settings.apply(self.state.process, one, self.words(one))
        path, user = self.state.process["WorkingDir"], self.state.process.get("User") or ""
        key = key_of(self.state.key, "WORKDIR", path, user)
        self.change(one, key, lambda hands, place: hands.folder(self.state.snapshot, path, user, place))

    def execute(self, one: Instruction) -> None:
        request = self.site.request
        argv, script = self.command(one)
        mounts = tuple(run_mount(text, self.expand) for text in one.every("mount"))
        network = one.flag("network") or request.network
        if network not in NETWORKS:
            raise Wrong(f"network={network} is not possible while building", "it is default, host or none")
        insecure = one.flag("security") == "insecure"
        if one.flag("security") not in ("", "insecure", "sandbox"):
            raise Wrong("--security is sandbox or insecure")
        if insecure and not request.insecure:
            raise Wrong("--security=insecure is not allowed", "`build.privileged: true` allows it")
        process = {k: v for k in ("Env", "User", "WorkingDir") if (v := self.state.process.get(k))}
        hidden = {name: request.args[name] for name in PROXIES if name in request.args}
        arguments = {name: value for name, value in self.arguments.items() if name not in PROXIES}
        inputs = [self.input_of(mount) for mount in mounts]
        limits = [network == "none", insecure, *filter(None, (request.args.get(HOSTNAME),))]
        key = key_of(self.state.key, "RUN", argv, script, process, arguments, inputs, limits)

        def do(hands: Hands, place: Path) -> Path | None:
            from composer.build.run import Job

            known = {**hidden, **arguments}
            # No part of the key: what was made online is known offline, too.
            way = "none" if is_offline() else network
            job = Job(tuple(argv), script, process, known, one.place, way, insecure, mounts)
            return hands.run(self.state.snapshot, job, place, lambda line: self.say(one, "output", line))

        count = (
            f"|{len(arguments)} {' '.join(f'{k}={v}' for k, v in arguments.items())} " if arguments else ""
        )
        self.change(one, key, do, f"RUN {count}{' '.join(argv)}")

    def command(self, one: Instruction) -> tuple[list[str], str]:
        """The argv, and the script it runs if that is a file: a heredoc by itself that names its interpreter.

        Any other heredoc by itself is for the stage's shell, and one within a command is the shell's matter.
        """
        if not one.args:
            raise Wrong("RUN has nothing to run")
        if not one.heredocs:
            return settings.command(one, self.state.process), ""
        shell = self.state.process.get("Shell") or settings.SHELL
        script = one.heredocs[0].content
        if heredoc(one.args[0]) is None:
            text = one.args[0] + "".join(f"\n{h.text}{h.name}" for h in one.heredocs)
            return [*shell, text], ""
        return ([SCRIPT], script) if script.startswith("#!") else ([*shell, script], "")

    def input_of(self, mount: RunMount) -> list[Any]:
        """What a mount brings in: its content counts, but for what must not matter to the result."""
        facts = [mount.type, mount.target, mount.source, mount.origin, mount.read_only, mount.env]
        if mount.type == "bind":
            pattern = mount.source or "."
            facts.append(self.digest(CopyJob("/", mount.origin, (pattern,))))
        return facts

    def copy(self, one: Instruction) -> None:
        process = self.state.process
        words = self.words(one)
        target = settings.within(process, words[-1])
        if words[-1].endswith(("/", "/.")) or words[-1] in (".", ""):
            target = target.rstrip("/") + "/"
        begun = [] if one.json else [heredoc(word) for word in one.args[:-1]]
        texts = []
        for doc in one.heredocs:
            content = expand_heredoc(doc.content, self.variables, self.escape) if doc.expand else doc.content
            texts.append((doc.name, content))
        plain = [word for word, doc in zip(words, begun or [None] * len(words), strict=False) if doc is None]
        plain = plain[: len(words) - 1 - len(one.heredocs)]
        far = [word for word in plain if one.word == "ADD" and is_far(word)]
        job = CopyJob(
            target=target if len(words) == 2 else target.rstrip("/") + "/",
            origin=one.flag("from"),
            sources=tuple(word for word in plain if word not in far),
            texts=tuple(texts),
            urls=tuple(far),
            chown=self.expand(one.flag("chown")),
            chmod=self.expand(one.flag("chmod")),
            exclude=tuple(self.expand(text) for text in one.every("exclude")),
            parents=one.flag("parents") == "true",
            unpack=None if one.word == "ADD" and not one.flag("unpack") else one.flag("unpack") == "true",
            checksum=self.expand(one.flag("checksum")),
            keep_git=one.flag("keep-git-dir") == "true",
        )
        if job.checksum and not job.urls:
            raise Wrong("--checksum is for what ADD downloads")
        if one.flag("link") == "true":
            job = self.linked(job)
        below = self.state.key if job.link is None else ""
        key = key_of(below, one.word, *_facts(job), self.digest(job))
        self.change(one, key, lambda hands, place: hands.copy(self.state.snapshot, job, place))

    def linked(self, job: CopyJob) -> CopyJob:
        """The same, so that its layer is good on any tree with the same directories and owners of that name.

        As with BuildKit, a link of the image on the way to the target is not followed but replaced. The
        directories on the way keep the owners and modes that they have.
        """
        if job.chown:
            from composer.build.copy import owner_of

            text = self.state.snapshot.text
            job = job.replace(
                chown="{}:{}".format(*owner_of(job.chown, text("etc/passwd"), text("etc/group")))
            )
        tree = self.state.snapshot.tree()
        standing: list[Standing] = []
        node: Node | None = tree.root
        parts = [part for part in job.target.split("/") if part]
        while node is not None and node.is_directory:
            status = node.status
            standing.append(Standing(node.path, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid))
            node = tree.child(node, parts.pop(0)) if parts else None
        return job.replace(link=tuple(standing))

    def digest(self, job: CopyJob) -> str:
        """Of all content that is copied. Of a tree that never changes it is worked out once."""
        source = self.site.source(job.origin)
        exclude = Ignore(patterns("\n".join(job.exclude)))
        asked = ("copy", *source.identity, job.sources, job.exclude, job.parents)
        known = self.site.cache.note(*asked) if source.identity else None
        if known is None:
            found = []
            for pattern in job.sources:
                items = list(source.select(pattern, exclude, parents=job.parents))
                if not items:
                    raise absent(self.site, job.origin, pattern)
                found += items
            known = source.digest(found) if found else ""
            if source.identity:
                self.site.cache.remember(known, *asked)
        get = self.site.fetcher.get
        far = [get(url, job.checksum, keep_git=job.keep_git).identity for url in job.urls]
        return key_of(known, job.texts, far, job.exclude if far else ())

    def change(
        self,
        one: Instruction,
        key: str,
        do: Callable[[Hands, Path], Path | None],
        text: str = "",
    ) -> None:
        """One step's result: found, or made."""
        self.count += 1
        cache = self.site.cache
        done = cache.step(key) if self.lookup else None
        if done is not None:
            self.say(one, "cached")
        elif self.hands is None:
            raise Undone
        else:
            self.say(one, "start")
            started = time.monotonic()
            try:
                done, status = self.make(key, do)
            except BaseException:
                self.say(one, "error", seconds=time.monotonic() - started)
                raise
            self.say(one, status, seconds=time.monotonic() - started)
        self.state.key = key_of(self.state.key, key)
        self.state.created = done.created
        self.state.steps = (*self.state.steps, (key, done.layer, done.created))
        if done.layer:
            self.state.snapshot = self.state.snapshot.on_top(cache.directory(done.layer))
            self.state.layers = (*self.state.layers, done.layer)
        self.remember(text or one.text, empty=not done.layer)

    def make(self, key: str, do: Callable[[Hands, Path], Path | None]) -> tuple[Done, str]:
        """A step's result, and whether it was `cached` after all or had to be `done`."""
        cache = self.site.cache
        assert self.hands is not None
        with ExitStack() as held:
            held.enter_context(cache.doing(key))
            done = cache.step(key) if self.lookup else None
            if done is not None:
                return done, "cached"
            place = held.enter_context(cache.workspace())
            if (done := self.travelled(key, place)) is not None:
                return done, "cached"
            return cache.keep(key, do(self.hands, place), now(self.site.epoch)), "done"

    def travelled(self, key: str, place: Path) -> Done | None:
        """A step's result from a cache of elsewhere. What is wrong with it is told, and the step is done."""
        if not self.site.request.cache_from or not self.lookup:
            return None
        from composer.build import travel

        if self.travellers is None:
            self.travellers = travel.arrived(self.site, self.tell)
        try:
            return travel.take(self.site, self.travellers, key, self.state.snapshot, place)
        except ComposerError as error:
            text = f"a step of a cache from elsewhere is not used: {error.message}"
            self.tell(Event(self.site.request.name, self.site.request.name, "warning", text))
            return None

    def say(self, one: Instruction, status: str, text: str = "", seconds: float = 0.0) -> None:
        name = f"{self.site.request.name} {self.stage.title}" if len(self.site.plan.stages) > 1 else ""
        title = f"[{name or self.site.request.name} {self.count}/{self.total}] {one.text.splitlines()[0]}"
        step = f"{self.site.request.name}/{self.stage.number}/{self.count}"
        self.tell(Event(step, title, status, text, seconds))


METHODS: dict[str, Callable[[Walk, Instruction], None]] = {
    "ADD": Walk.copy,
    "ARG": Walk.argument,
    "COPY": Walk.copy,
    "MAINTAINER": Walk.maintainer,
    "RUN": Walk.execute,
    "WORKDIR": Walk.workdir,
}


def _facts(job: CopyJob) -> list[Any]:
    return [job.target, job.chown, job.chmod, job.parents, job.unpack, job.keep_git, job.link]


def absent(site: Site, origin: str, pattern: str) -> Wrong:
    """Why nothing was found for a source argument."""
    if origin:
        return Wrong(f"there is no {pattern} in {origin}")
    if Path(site.folder, pattern.lstrip("/")).exists():
        return Wrong(f"there is no {pattern} in the build context: .dockerignore leaves it out")
    hint = "sources of COPY are inside the context" if ".." in pattern.split("/") else None
    return Wrong(f"there is no {pattern} in the build context {site.folder}", hint)


def is_far(word: str) -> bool:
    """Whether ADD has to fetch it."""
    return word.startswith(("http://", "https://", "git://", "git@", "ssh://"))


def now(epoch: int | None) -> str:
    """The time of a step in RFC 3339."""
    seconds = time.time() if epoch is None else epoch
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
