"""Everything on disk that a container's bundle needs: layers, mounts, small files, secrets, its config.json.

Reads the image, writes below the container's own directories, and asks the pure `bundle` for the rest.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.bundle import accounts, filters, namespaces, process, security, spec
from composer.bundle.inputs import Account, Binding, Place
from composer.disk import write_json
from composer.errors import ComposerError, NotFoundError, UsageError
from composer.images.image import Image
from composer.model.stack import OWN_USER, Mount, Service, Volume
from composer.runtime import seccomp
from composer.supervisor.facts import block_devices, facts_for, host_facts, wanted_devices
from composer.supervisor.netfiles import named, partner, small_files
from composer.supervisor.userns import NO_IDMAP
from composer.supervisor.world import Live
from composer.volumes.snapshots import SnapshotStore

if TYPE_CHECKING:
    from composer.supervisor.core import Core

Overlay = dict[str, Any]
PLAIN_LAYERS = ("redirect_dir=off", "metacopy=off")
"""A container's changes can be made a layer of an image only without overlayfs's own shortcuts."""


def furnish(core: Core, live: Live, service: Service, image: Image) -> tuple[dict[str, Any], Overlay]:
    """Write the bundle of a container that is about to start. Its OCI configuration and its root overlay.

    Raises ComposerError for whatever stands in the way; nothing outside the container's directories is made
    but volumes and bind sources that were asked for.
    """
    run, state = core.here.container_run(live.name), core.here.container_state(live.name)
    (run / "rootfs").mkdir(parents=True, exist_ok=True)
    core.here.logs.mkdir(parents=True, exist_ok=True)
    os.chmod(run, 0o711)
    service = named(core, service)
    root, *more = layers(core.volumes.store.snapshots, state, image)
    config: Mapping[str, Any] = image.config.get("config") or {}
    folders = [str(Path(root["upper"])), *root["lowers"]]
    account = account_of(service, config, folders)
    bindings = list(bind(core, live, service, config, image, account, folders))
    paths = joined(core, service)
    pids = [int(path.split("/")[2]) for path in paths.values()]
    userns = core.userns.choose(core.stack, service, image, account, bindings, pids)
    if userns.told and core.userns.first_time():
        what = f"service {service.name} runs without a user namespace: {userns.why}"
        core.notice(f"{what} (said once; `composer container inspect` says it of each)")
    place = Place(
        id=live.plan.id,
        name=live.name,
        number=live.plan.slot.number,
        first_id=userns.first,
        account=account,
        bindings=tuple(bindings),
        grants=grants(core, service, run, userns.first),
        devices=tuple(wanted_devices(service.devices)),
        block_devices=block_devices(blkio_paths(service)),
        joined=paths | ({"user": userns.join} if userns.join else {}),
        shm=shared_memory(core, service),
        seccomp=filter_for(service, core.stack.working_dir),
    )
    facts = facts_for(service.privileged)
    place = place.replace(
        files=small_files(core, live, service, namespaces.hostname(service, place, host_facts()))
    )
    for path in place.files.values():
        os.chown(path, userns.first, userns.first)
    made: dict[str, Any] = spec(core.stack, service, place, config, facts)  # type: ignore[assignment]
    views = [
        core.images.view(mount, mapped=userns.first > 0) for mount in service.volumes if mount.type == "image"
    ]
    made["mounts"] = [*more, *made["mounts"], *views]
    if core.injection is not None and (ahead := core.injection.clock(service.name)):
        made["linux"]["namespaces"].append({"type": "time"})
        made["linux"]["timeOffsets"] = {name: {"secs": ahead} for name in ("monotonic", "boottime")}
    live.command = list(made["process"]["args"])
    live.userns = userns.why
    live.mounts = [mount_row(binding) for binding in bindings]
    write_json(run / "config.json", made, mode=0o600, durable=False)
    return made, root


def blkio_paths(service: Service) -> Iterator[str]:
    blkio = service.resources.blkio
    for rates in (
        blkio.weight_device,
        blkio.device_read_bps,
        blkio.device_read_iops,
        blkio.device_write_bps,
        blkio.device_write_iops,
    ):
        yield from (rate.path for rate in rates)


def layers(snapshots: SnapshotStore, state: Path, image: Image) -> list[dict[str, Any]]:
    """The root overlay, and further overlays as OCI mounts; their writable parts are made when missing."""
    found: list[dict[str, Any]] = []
    for number, overlay in enumerate(image.root):
        upper, work, kept = snapshots.overlay(state, number)
        lowers = [*kept, *overlay.lowers]
        if not upper.is_dir():
            upper.mkdir(parents=True)
            shutil.copystat(overlay.lowers[0], upper)
            status = os.stat(overlay.lowers[0])
            os.chown(upper, status.st_uid, status.st_gid)
        work.mkdir(exist_ok=True)
        if number == 0:
            root = {"lowers": lowers, "upper": str(upper), "work": str(work)}
            found.append({**root, "options": list(PLAIN_LAYERS)})
            continue
        options = [f"lowerdir={':'.join(lowers)}", f"upperdir={upper}", f"workdir={work}"]
        options += PLAIN_LAYERS
        found.append(
            {"destination": overlay.target, "type": "overlay", "source": "overlay", "options": options}
        )
    return found


def account_of(service: Service, config: Mapping[str, Any], folders: Iterable[str]) -> Account:
    """Who the container runs as, by its own passwd and group files."""
    text = process.user(service, config)
    folders = list(folders)
    return accounts.resolve(
        text, topmost(folders, "etc/passwd"), topmost(folders, "etc/group"), service.group_add
    )


def check_account(core: Core, service: Service, image: Image | None) -> None:
    """Raises NotFoundError for names of `user` and `group_add` that the image which will be used has not.

    Containers that are there may have made them themselves.
    """
    if image is None or core.world.of_service(service.name):
        return
    try:
        account_of(service, image.config.get("config") or {}, image.root[0].lowers)
    except NotFoundError as error:
        raise NotFoundError(f"service {service.name}: {error.message}", hint=error.hint) from None


def topmost(folders: Iterable[str], name: str) -> str:
    """The text of a regular file of the image, without following links; "" when there is none."""
    for folder in folders:
        try:
            descriptor = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        with os.fdopen(descriptor, "rb") as file:
            return file.read(accounts.LARGEST_FILE).decode(errors="replace")
    return ""


def bind(
    core: Core,
    live: Live,
    service: Service,
    config: Mapping[str, Any],
    image: Image,
    account: Account,
    folders: Iterable[str],
) -> Iterable[Binding]:
    """The service's mounts with their places on the host; the image's VOLUMEs that nothing covers, too."""

    def bound(mount: Mount) -> Binding:
        binding = Binding(mount, source_of(core, live, mount, image))
        if mount.owner:
            binding = binding.replace(owner=owner_of(binding, account, folders))
        binding = binding.replace(misfit=core.userns.misfit(binding))
        if mount.owner and (core.userns.obstacle or binding.misfit == NO_IDMAP):
            raise UsageError(f"service {service.name}: x-owner at {mount.target}: {binding.path} {NO_IDMAP}")
        return binding

    covered = set()
    for mount in (*inherited(core, service), *service.volumes):
        covered.add(os.path.normpath(mount.target))
        if mount.type != "image":
            yield bound(mount)
    for target in config.get("Volumes") or {}:
        if os.path.normpath(target) not in covered:
            yield bound(Mount("volume", target))


def owner_of(
    binding: Binding, account: Account, folders: Iterable[str]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Whose the source is on disk, and who is seen instead. Raises NotFoundError for an unknown user."""
    status = os.stat(binding.path)
    if binding.mount.owner != OWN_USER:
        folders = list(folders)
        files = (topmost(folders, "etc/passwd"), topmost(folders, "etc/group"))
        account = accounts.resolve(binding.mount.owner, *files)
    return (status.st_uid, status.st_gid), (account.uid, account.gid)


def inherited(core: Core, service: Service) -> Iterable[Mount]:
    """What `volumes_from` brings. Raises NotFoundError."""
    own = {os.path.normpath(mount.target) for mount in service.volumes}
    for text in service.volumes_from:
        name, _, mode = text.removeprefix("container:").partition(":")
        lives = [core.live(name)] if text.startswith("container:") else core.world.of_service(name)
        if not lives:
            raise NotFoundError(f"volumes_from: service {name} has no container")
        for entry in lives[0].mounts:
            if entry["type"] != "tmpfs" and os.path.normpath(entry["target"]) not in own:
                yield Mount(
                    "bind", entry["target"], entry["source"], read_only=mode == "ro" or entry["read_only"]
                )


def source_of(core: Core, live: Live, mount: Mount, image: Image) -> str:
    """The host's path behind a mount, made if it may be."""
    if mount.type == "tmpfs":
        return ""
    if mount.type == "bind":
        return bind_source(mount)
    if mount.source in core.stack.volumes:
        name = core.stack.volumes[mount.source].name
    elif mount.source:
        return undeclared(core, live, mount, image)
    else:
        target = os.path.normpath(mount.target)
        name = live.anonymous.setdefault(target, os.urandom(32).hex())
        core.volumes.ensure_anonymous(name, core.stack.name, live.name)
    return core.volumes.path(name, mount, image)


def undeclared(core: Core, live: Live, mount: Mount, image: Image) -> str:
    """Of a volume that the files no longer have, as it was; else, with `run -v`, one of that very name."""
    for row in live.mounts:
        if (row["type"], row["name"], row["target"]) == ("volume", mount.source, mount.target):
            return str(row["source"])
    core.volumes.ensure(Volume(mount.source, mount.source), "")
    return core.volumes.path(mount.source, mount, image)


def bind_source(mount: Mount) -> str:
    if not os.path.lexists(mount.source):
        if not mount.create_host_path:
            raise NotFoundError(
                f"there is nothing at {mount.source}, which is to be mounted at {mount.target}",
                hint="create it, or allow it with `bind: {create_host_path: true}`",
            )
        try:
            os.makedirs(mount.source, exist_ok=True)
        except OSError as error:
            raise ComposerError(f"cannot make {mount.source}: {error.strerror}") from error
    path = os.path.join(mount.source, mount.subpath) if mount.subpath else mount.source
    return os.path.realpath(path)


def mount_row(binding: Binding) -> dict[str, Any]:
    mount = binding.mount
    return {
        "type": mount.type,
        "target": mount.target,
        "source": binding.path,
        "name": mount.source if mount.type == "volume" else "",
        "read_only": mount.read_only,
    }


def grants(core: Core, service: Service, run: Path, first_id: int) -> dict[str, str]:
    """Secrets and configs as files of their own on the run directory, which is memory: target → path.

    Not shown by mappings, but owned by whoever the container's ids are: memory cannot be mapped before 6.3.
    """
    found = {}
    folder = run / "grants"
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    pairs = [(grant, core.stack.secrets, "secret") for grant in service.secrets]
    pairs += [(grant, core.stack.configs, "config") for grant in service.configs]
    for number, (grant, sources, kind) in enumerate(pairs):
        source = sources[grant.source]
        if source.external:
            raise NotFoundError(f"{kind} {source.name} is external, and this host keeps none")
        try:
            data = Path(source.file).read_bytes() if source.file else (source.content or "").encode()
        except OSError as error:
            raise NotFoundError(
                f"{kind} {grant.source}: cannot read {source.file}: {error.strerror}"
            ) from error
        folder.mkdir(mode=0o711, exist_ok=True)
        path = folder / str(number)
        path.write_bytes(data)
        os.chown(path, first_id + int(grant.uid or 0), first_id + int(grant.gid or 0))
        os.chmod(path, grant.mode)
        found[grant.target] = str(path)
    return found


def joined(core: Core, service: Service) -> dict[str, str]:
    """Namespaces of other containers that the service joins. Raises NotFoundError when one does not run."""
    found = {}
    for kind, mode in namespaces.modes(service).items():
        if not mode.startswith(namespaces.SHARED):
            continue
        other = partner(core, mode)
        found[kind] = f"/proc/{other.pid}/ns/{'net' if kind == 'network' else kind}"
    return found


def shared_memory(core: Core, service: Service) -> str:
    """The /dev/shm that goes with an ipc namespace of another container, as the host sees it."""
    if not service.ipc.startswith(namespaces.SHARED):
        return ""
    return f"/proc/{partner(core, service.ipc).pid}/root/dev/shm"


def filter_for(service: Service, directory: str) -> Mapping[str, Any] | None:
    """The seccomp filter: the default profile, a file of one's own (relative to the stack's), or none."""
    if service.privileged:
        return None
    rules, facts = security.options(service), host_facts()
    capabilities = frozenset(security.capabilities(service, facts))
    if rules.seccomp == "unconfined":
        return None
    if rules.seccomp:
        try:
            data = json.loads(Path(directory, rules.seccomp).read_bytes())
            return filters.chosen(data, capabilities, facts.kernel, os.uname().machine)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ComposerError(f"service {service.name}: seccomp profile {rules.seccomp}: {why}") from error
    return seccomp.default_profile(capabilities)
