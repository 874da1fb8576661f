"""Builds: stages side by side, each in a process of its own, and the images at their end. K.

This process only looks things up and waits; what has to be done is forked off and says by a pipe how it goes.
A build of which everything is known forks nothing and loads little.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from composer.build.cache import Cache
from composer.build.export import finished
from composer.build.faults import packed, unpacked
from composer.build.request import Request
from composer.build.site import Missing, Site, unused_arguments
from composer.build.stages import Stage
from composer.build.survey import survey
from composer.build.walk import Event, Hands, State, Tell, Undone, Walk
from composer.errors import ComposerError, ImageError
from composer.images.store import Store
from composer.paths import Paths

AT_ONCE = max(2, os.cpu_count() or 1)
"""Processes that do something."""


class Interrupted(BaseException):
    """SIGTERM: clean up and end."""


class Task:
    """A forked process: what it is about, and the pipe it tells by."""

    def __init__(self, about: tuple[Any, ...], pid: int, pipe: int) -> None:
        self.about, self.pid, self.pipe = about, pid, pipe
        self.rest = b""
        self.error: ComposerError | None = None


class Job:
    """One request on its way. `site` is read when all that it is made from is there."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.site: Site | None = None
        self.done = ""
        self.doing: set[Any] = set()
        self.built: set[int] = set()
        self.pulled: set[str] = set()
        self.surveys: dict[int, State] = {}
        self.uses: dict[int, frozenset[int]] = {}


class Builder:
    """Builds requests; `tell` hears every event."""

    def __init__(
        self,
        paths: Paths,
        tell: Tell,
        environment: Mapping[str, str],
        *,
        tick: Callable[[], None] | None = None,
    ) -> None:
        """`tick` is called ten times a second while nothing is heard."""
        self.tick = tick
        self.cache, self.store = Cache(paths), Store(paths)
        self.tell, self.environment = tell, environment
        self.tasks: list[Task] = []
        self.worked = False

    def build(self, requests: Sequence[Request]) -> dict[str, str]:
        """The id of each request's image, by its name. Raises ComposerError of the first that fails."""
        jobs = {request.name: Job(request) for request in requests}
        with self.cache.building():
            try:
                while self.tasks or not all(job.done for job in jobs.values()):
                    for job in jobs.values():
                        if not job.done and all(jobs[name].done for name in job.request.after):
                            self.advance(job)
                    if self.tasks:
                        self.wait()
            finally:
                self.end()
            if self.worked:
                self.cache.sync()
                self.store.unpacked.settle()
        if self.worked:
            from composer.build.forget import largest, trim

            trim(self.cache, most=largest(self.environment))
        return {name: job.done for name, job in jobs.items()}

    def advance(self, job: Job) -> None:
        """Take over what is known, and begin what can be begun."""
        if job.site is None:
            job.site = self.read(job)
        site = job.site
        again = True
        while again:
            again = False
            for stage in needed(job, site):
                if stage.number in site.results or not all(n in site.results for n in stage.uses):
                    continue
                if stage.number not in job.doing and self.look(job, site, stage):
                    again = True
        site.save()
        if site.target.number in site.results and "image" not in job.doing:
            self.finish(job, site, site.results[site.target.number])

    def read(self, job: Job) -> Site:
        site = Site(job.request, self.cache, self.store, self.environment)
        if not job.pulled:
            self.warn(job, (*job.request.warnings, *map(str, site.doubts)))
            unused = unused_arguments(site)
            self.warn(job, (f"no ARG of {site.file} takes the build argument {name}" for name in unused))
        return site

    def look(self, job: Job, site: Site, stage: Stage) -> bool:
        """Whether the stage is known to the end; if not, somebody begins to find out."""
        told: list[Event] = []
        request = job.request
        fresh = request.no_cache or stage.name in request.no_cache_filter
        lookup = not fresh or stage.number in job.built
        try:
            if request.pull and isinstance(stage.base, str):
                self.wanted_anew(job, site, stage)
            self.survey(job, site, stage)
            if not all(number in site.results for number in job.uses[stage.number]):
                return False
            state = Walk(site, stage, told.append, None, lookup=lookup).run()
        except Undone:
            if len(self.tasks) < AT_ONCE:
                from composer.build.hands import Worker

                job.doing.add(stage.number)
                self.fork((job, stage.number), lambda tell: work(site, stage, tell, Worker(site), lookup))
                import composer.images.intake  # noqa: F401 - for the end of the build, while others work
            return False
        except Missing as missing:
            self.pull(job, missing.reference)
            return False
        if stage.number not in job.built:
            for event in told:
                self.tell(event)
        site.results[stage.number] = state
        return True

    def survey(self, job: Job, site: Site, stage: Stage) -> None:
        """Tell what is doubtful before anything is done about it."""
        if stage.number not in job.surveys:
            found = survey(site, stage, job.surveys)
            job.surveys[stage.number], job.uses[stage.number] = found.state, found.uses
            self.warn(job, map(str, found.doubts))

    def warn(self, job: Job, texts: Iterable[str]) -> None:
        for text in texts:
            self.tell(Event(job.request.name, job.request.name, "warning", text))

    def wanted_anew(self, job: Job, site: Site, stage: Stage) -> None:
        """`--pull`: base images are asked for though they are here."""
        image = site.base(stage)
        known = image is not None and (image.id in ("host", "scratch") or image.reference in job.pulled)
        if image is not None and not known and str(stage.base) not in job.pulled:
            raise Missing(str(stage.base))

    def pull(self, job: Job, reference: str) -> None:
        if ("pull", reference) in job.doing:
            return
        if reference in job.pulled:
            raise ImageError(f"the image {reference} is not here, though it was pulled")
        job.doing.add(("pull", reference))
        self.fork((job, ("pull", reference)), lambda tell: fetch_image(self.store, reference, tell))

    def finish(self, job: Job, site: Site, state: State) -> None:
        job.done = finished(site, state)
        if not job.done:
            job.doing.add("image")
            self.fork((job, "image"), lambda tell: write_image(site, state, tell))
        else:
            self.send(job)

    def send(self, job: Job) -> None:
        """What is to leave this host when the image is there."""
        site = job.site
        assert site is not None
        if job.request.cache_to:
            state = site.results[site.target.number]
            self.fork((job, "cache"), lambda tell: write_caches(site, state, tell))
        if job.request.push:
            self.push(job)

    def push(self, job: Job) -> None:
        """Send the image where its names say."""
        import anyio

        for name in job.request.images:
            event = Event(f"push {name}", f"pushing {name}", "start")
            self.tell(event)
            anyio.run(self.store.push, name)
            self.tell(event.replace(status="done"))

    # Processes

    def fork(self, about: tuple[Any, ...], body: Callable[[Tell], None]) -> None:
        if not self.worked:
            self.worked = True
            self.clear()
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python warns of other threads; the child starts none, and waits for no lock that one could hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(read)
            for task in self.tasks:
                os.close(task.pipe)
            _child(write, body)
        os.close(write)
        self.tasks.append(Task(about, pid, read))

    def clear(self) -> None:
        """End what builds left behind that were killed."""
        from composer.runtime import cgroup

        for place in self.cache.abandoned():
            note = place / "cgroup"
            if note.exists():
                group = cgroup.open(note.read_text())
                if group.exists():
                    group.kill()
                    group.remove()
            shutil.rmtree(place, ignore_errors=True)

    def wait(self) -> None:
        """Until somebody tells something."""
        pipes = [task.pipe for task in self.tasks]
        ready, _, _ = select.select(pipes, [], [], 0.1 if self.tick else None)
        if self.tick and not ready:
            self.tick()
        for task in [task for task in self.tasks if task.pipe in ready]:
            data = os.read(task.pipe, 1 << 16)
            *lines, task.rest = (task.rest + data).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "error" in message:
                    task.error = unpacked(message["error"])
                else:
                    self.tell(Event(**message))
            if not data:
                self.ended(task)

    def ended(self, task: Task) -> None:
        self.tasks.remove(task)
        os.close(task.pipe)
        _, status = os.waitpid(task.pid, 0)
        if task.error is not None:
            raise task.error
        if status:
            raise ImageError(f"a build process ended with status {os.waitstatus_to_exitcode(status)}")
        job, what = task.about
        job.doing.discard(what)
        if isinstance(what, int):
            job.built.add(what)
        elif what == "image":
            assert job.site is not None
            job.done = finished(job.site, job.site.results[job.site.target.number])
            self.send(job)
        elif isinstance(what, tuple):
            job.pulled.add(what[1])
            job.site = self.read(job)

    def end(self) -> None:
        """Nobody of ours goes on."""
        for task in self.tasks:
            os.kill(task.pid, signal.SIGTERM)
        for task in self.tasks:
            os.waitpid(task.pid, 0)
            os.close(task.pipe)
        self.tasks.clear()


def needed(job: Job, site: Site) -> list[Stage]:
    """The stages that the target needs, and those that what their base images keep for later needs."""
    found = {stage.number: stage for stage in site.plan.needed(site.target)}
    for number in sorted({number for uses in job.uses.values() for number in uses} - found.keys()):
        found |= {stage.number: stage for stage in site.plan.needed(site.plan.stages[number])}
    return [found[number] for number in sorted(found)]


def _child(write: int, body: Callable[[Tell], None]) -> NoReturn:
    """The whole life of a forked process."""

    def stop(*_: object) -> None:
        raise Interrupted

    def tell(event: Event) -> None:
        _send(write, {name: getattr(event, name) for name in Event.__fields__})

    code = 1
    try:
        from composer.runtime import linux

        signal.signal(signal.SIGTERM, stop)
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # the terminal's; the parent decides, and says it by SIGTERM
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)
        body(tell)
        code = 0
    except ComposerError as error:
        _send(write, {"error": packed(error)})
    except Interrupted:
        pass
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        told = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        _send(write, {"error": packed(ImageError(told))})
    finally:
        os._exit(code)


def _send(write: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    try:
        while data:
            data = data[os.write(write, data) :]
    except BrokenPipeError:
        raise Interrupted from None


def work(site: Site, stage: Stage, tell: Tell, hands: Hands, lookup: bool) -> None:
    """Carry a stage out, in a forked process."""
    from composer.build.mounting import alone

    alone()
    Walk(site, stage, tell, hands, lookup=lookup).run()


def fetch_image(store: Store, reference: str, tell: Tell) -> None:
    """Pull a base image, in a forked process."""
    import anyio

    event = Event(f"pull {reference}", f"pulling {reference}", "start")
    tell(event)
    anyio.run(store.pull, reference)
    tell(event.replace(status="done"))


def write_caches(site: Site, state: State, tell: Tell) -> None:
    """Write what `cache_to` asks for, in a forked process."""
    from composer.build.travel import depart

    depart(site, state, tell)


def write_image(site: Site, state: State, tell: Tell) -> None:
    """Make the image, in a forked process."""
    from composer.build.export import export

    event = Event(
        f"{site.request.name}/image", f"[{site.request.name}] writing {site.request.images[0]}", "start"
    )
    tell(event)
    identity = export(site, state)
    tell(event.replace(status="done", text=identity))
