"""RUN: one container over the tree so far. K; only in a process that `mounting.alone` was called in.

What the step is given besides the tree (secrets, agents, caches, hosts, proc, dev) is mounted over it, and
what had to be made for the mounts to stand on is taken away again: a layer holds what the command did.
"""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from composer import oci
from composer.build.cache import Cache
from composer.build.container import Output, carry_out, clear, failed, missing
from composer.build.context import Source
from composer.build.copy import Writer
from composer.build.faults import fault
from composer.build.ignore import Ignore
from composer.build.mounting import like
from composer.build.mounts import RunMount
from composer.build.parse import Wrong
from composer.build.request import Request
from composer.build.walk import HOSTNAME
from composer.bundle import accounts, files, security
from composer.bundle.inputs import Account, HostFacts, Place
from composer.bundle.spec import spec
from composer.disk import locked
from composer.errors import Place as Where
from composer.images.image import RootOverlay
from composer.model.stack import Resources, Service, Stack
from composer.runtime import cgroup, seccomp
from composer.syscalls import open_in_root
from composer.value import Value

GROUPS = "/composer/build"
CACHES = "BUILDKIT_CACHE_MOUNT_NS"
"""The build argument that gives a build cache mounts of its own."""


class Job(Value):
    """A command and what it runs with.

    `script` is the text of the file that argv names, if it is one. `arguments` are build arguments, which the
    environment hides.
    """

    argv: tuple[str, ...]
    script: str
    process: Mapping[str, Any]
    arguments: Mapping[str, str]
    where: Where
    network: str = ""
    insecure: bool = False
    mounts: tuple[RunMount, ...] = ()


class Runner:
    """Runs the jobs of one build. `sources` gives the tree that a mount's `from` names."""

    def __init__(self, request: Request, cache: Cache, source: Callable[[str], Source]) -> None:
        self.request, self.cache, self.source = request, cache, source

    def run(self, job: Job, root: Path, place: Path, output: Output) -> tuple[str, ...]:
        """Carry it out. The directories that only its mounts may have changed.

        Raises DockerfileError when the command fails, ImageError when it cannot be started.
        """
        with ExitStack() as held:
            made = Furniture(self, job, root, place, held)
            bundle = made.bundle()
            bare = missing(root, [mount["destination"] for mount in bundle["mounts"]])
            try:
                code, last = carry_out(bundle, place, output)
            finally:
                clear(root, bare)
        if code:
            raise fault(job.where, failed(code, last))
        return tuple(os.path.dirname(path) for path in bare)


class Furniture:
    """The OCI configuration of one job, and what has to exist for it until `held` is closed."""

    def __init__(self, runner: Runner, job: Job, root: Path, place: Path, held: ExitStack) -> None:
        self.runner, self.job, self.root, self.place, self.held = runner, job, root, place, held
        self.environment: dict[str, str] = {}
        self.count = 0
        self.account = account_of(root, job.process.get("User") or "")
        self.hostname = runner.request.args.get(HOSTNAME) or "build"

    def bundle(self) -> dict[str, Any]:
        job, request = self.job, self.runner.request
        mounts = [mount for one in job.mounts for mount in self.mount(one)]
        if job.script:
            path = self.place / "script"
            path.write_text(job.script)
            path.chmod(0o755)
            mounts.append(_bound(job.argv[0], str(path), "ro"))
        known = dict(entry.partition("=")[::2] for entry in job.process.get("Env") or ())
        arguments = {name: value for name, value in job.arguments.items() if name not in known}
        privileged = job.insecure
        service = Service(
            name=request.name,
            command=job.argv,
            entrypoint=(),
            environment={**arguments, **self.environment},
            network_mode="none" if job.network == "none" else "host",
            hostname=self.hostname,
            shm_size=request.shm_size,
            ulimits=request.ulimits,
            resources=Resources(memory=request.memory),
            privileged=privileged,
        )
        facts = host_facts()
        filter_ = None
        if not privileged:
            filter_ = seccomp.default_profile(frozenset(security.capabilities(service, facts)))
        where = Place(
            id=self.place.name,
            name="build",
            root=str(self.root),
            account=self.account,
            files=self.small_files(),
            seccomp=filter_,
        )
        image = {key: job.process[key] for key in ("Env", "WorkingDir") if job.process.get(key)}
        made: dict[str, Any] = spec(Stack("build", {}), service, where, image, facts)  # type: ignore[assignment]
        made["linux"]["cgroupsPath"] = f"{GROUPS}/{self.place.name}"
        made["mounts"] = sorted([*made["mounts"], *mounts], key=_depth)
        return made

    def small_files(self) -> dict[str, str]:
        """/etc/hosts and /etc/resolv.conf: the host's own, with the build's extra hosts."""
        path = self.place / "hosts"
        text = ""
        if self.job.network != "none":
            text = Path("/etc/hosts").read_text() if os.path.exists("/etc/hosts") else ""
        extra = self.runner.request.extra_hosts
        path.write_text(
            text + files.hosts(self.hostname, extra=extra, gateways=("127.0.0.1",), addresses=("127.0.1.1",))
        )
        found = {"/etc/hosts": str(path)}
        if os.path.exists("/etc/resolv.conf") and self.job.network != "none":
            found["/etc/resolv.conf"] = os.path.realpath("/etc/resolv.conf")
        return found

    # Mounts

    def mount(self, mount: RunMount) -> Iterator[oci.Mount]:
        made: Iterator[oci.Mount] = getattr(self, f"_{mount.type}")(mount)
        yield from made

    def _new(self) -> Path:
        self.count += 1
        path = self.place / f"mount{self.count}"
        path.mkdir()
        return path

    def _target(self, mount: RunMount) -> str:
        from composer.build.settings import within

        target = within(dict(self.job.process), mount.target)
        if target == "/":
            raise Wrong("nothing can be mounted at /")
        return target

    def _tmpfs(self, mount: RunMount) -> Iterator[oci.Mount]:
        options = ["nosuid", "nodev", "mode=1777", *([f"size={mount.size}"] if mount.size else [])]
        yield oci.Mount(destination=self._target(mount), type="tmpfs", source="tmpfs", options=options)

    def _bind(self, mount: RunMount) -> Iterator[oci.Mount]:
        """A copy on write of a directory, a file as it is; what is written is thrown away."""
        source = self.runner.source(mount.origin)
        node = source.tree.find(f"/{mount.source.lstrip('/')}")
        if node is None:
            raise Wrong(f"--mount=type=bind: there is no {mount.source or '/'} to mount")
        target = self._target(mount)
        mode = "ro" if mount.read_only else "rw"
        if node.is_directory and source.ignore.rules:
            copied = self._new()
            items = list(source.select(mount.source or ".", Ignore(())))
            writer = Writer(copied, owner=None, mode=None, owners=source.owners)
            writer.put(items, "/")
            writer.close()
            yield _bound(target, str(copied), mode)
        elif node.is_directory:
            for overlay in source.overlays(node):
                place = f"{target}{overlay.target}"
                if mount.read_only and len(overlay.lowers) == 1:
                    yield _bound(place, overlay.lowers[0], "ro")
                else:
                    yield self._overlay(place, overlay, mode)
        elif mount.read_only:
            yield _bound(target, node.places[0], "ro")
        else:
            copied = self._new() / "file"
            copied.write_bytes(Path(node.places[0]).read_bytes())
            copied.chmod(stat.S_IMODE(node.status.st_mode))
            yield _bound(target, str(copied), "rw")

    def _overlay(self, target: str, overlay: RootOverlay, mode: str) -> oci.Mount:
        """Mounted here, in this process's own namespace, since a list of layers may be long."""
        from composer.build.mounting import OPTIONS
        from composer.runtime import linux
        from composer.runtime.overlay import Overlay
        from composer.runtime.rootfs import open_root

        place = self._new()
        for name in ("upper", "work", "all"):
            (place / name).mkdir()
        like(overlay.lowers[0], place / "upper")
        layers = Overlay(overlay.lowers, str(place / "upper"), str(place / "work"), OPTIONS)
        mount = open_root("", "", layers, None)
        point = os.open(place / "all", os.O_PATH | os.O_CLOEXEC)
        linux.move_mount(mount, point, str(place))
        os.close(mount)
        os.close(point)
        self.held.callback(linux.umount, str(place / "all"), linux.MNT_DETACH)
        return _bound(target, str(place / "all"), mode)

    def _cache(self, mount: RunMount) -> Iterator[oci.Mount]:
        """A directory that outlives the build. `locked`: one step at a time; `private`: a copy each."""
        cache = self.runner.cache
        path = cache.mount(self.runner.request.args.get(CACHES, "") + mount.id)
        if mount.sharing == "locked":
            self.held.enter_context(locked(path.with_name(f"{path.name}.lock")))
        if mount.sharing == "private" and not self._own(path):
            path = self._new()
        with locked(path.with_name(f"{path.name}.new")):
            if not path.is_dir() or not any(path.iterdir()):
                path.mkdir(exist_ok=True)
                path.chmod(0o755 if mount.mode is None else mount.mode)
                os.chown(path, mount.uid, mount.gid)
                self._seed(mount, path)
        cache.used(path)
        yield _bound(self._target(mount), str(path), "ro" if mount.read_only else "rw")

    def _own(self, path: Path) -> bool:
        """Whether nobody else has the private cache now; then nobody else gets it until the step is over."""
        import fcntl

        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.held.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _seed(self, mount: RunMount, path: Path) -> None:
        if not mount.origin:
            return
        source = self.runner.source(mount.origin)
        writer = Writer(path, owner=None, mode=None, owners=source.owners)
        writer.put(source.select(mount.source or ".", Ignore(())), "/")
        writer.close()

    def _secret(self, mount: RunMount) -> Iterator[oci.Mount]:
        data = self.runner.request.secret(mount.id)
        if data is None:
            if mount.required:
                raise Wrong(f"the secret {mount.id} is required, and the build was not given it")
            return
        if mount.env:
            self.environment[mount.env] = data.decode(errors="surrogateescape")
        if mount.target:
            path = self._memory() / str(self.count)
            self.count += 1
            path.write_bytes(data)
            os.chown(path, mount.uid, mount.gid)
            path.chmod(0o400 if mount.mode is None else mount.mode)
            yield _bound(self._target(mount), str(path), "ro")

    def _memory(self) -> Path:
        """A tmpfs: what is secret never reaches a disk."""
        from composer.runtime import linux
        from composer.syscalls import mount

        place = self._new()
        mount("tmpfs", place, "tmpfs", 2 | 4 | 8, "mode=711")  # MS_NOSUID | MS_NODEV | MS_NOEXEC
        self.held.callback(linux.umount, str(place), linux.MNT_DETACH)
        return place

    def _ssh(self, mount: RunMount) -> Iterator[oci.Mount]:
        """The socket of the user's agent, or of one with the keys of files."""
        given = self.runner.request.ssh.get(mount.id)
        if given is None:
            if mount.required:
                raise Wrong(f"the ssh agent {mount.id} is required, and the build was not given it")
            return
        from composer.build.agent import agent, relay

        path = given[0]
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            path = self.held.enter_context(agent(given, self._new()))
        owner = mount.uid, mount.gid
        if owner != (0, 0) or mount.mode is not None:
            mode = 0o600 if mount.mode is None else mount.mode
            path = self.held.enter_context(relay(path, self._new(), owner, mode))
        target = self._target(mount) if mount.target else f"/run/buildkit/ssh_agent.{self.count}"
        self.count += 1
        self.environment.setdefault("SSH_AUTH_SOCK", target)
        yield _bound(target, path, "rw")


def _bound(target: str, source: str, mode: str) -> oci.Mount:
    return oci.Mount(destination=target, type="bind", source=source, options=["rbind", mode, "rprivate"])


def _depth(mount: oci.Mount) -> int:
    return mount["destination"].rstrip("/").count("/")


def host_facts() -> HostFacts:
    known = int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return HostFacts(cgroup=cgroup.layout().kind, capabilities=known, open_files=files)


def account_of(root: Path, text: str) -> Account:
    """Who a step runs as, or files shall belong to, by the tree's own files. Raises ComposerError."""
    return accounts.resolve(text or "0", text_of(root, "etc/passwd"), text_of(root, "etc/group"))


def text_of(root: Path, name: str) -> str:
    """A file of the tree, links followed inside it; "" when there is none."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        file = open_in_root(folder, name.encode(), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    finally:
        os.close(folder)
    with os.fdopen(file, "rb") as opened:
        return opened.read(accounts.LARGEST_FILE).decode(errors="replace")
