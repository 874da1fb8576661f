"""What one image is to be built from and with. Pure, but for reading secrets when a step asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from composer.errors import ImageError, UsageError
from composer.images.config import platform
from composer.model.stack import NOTHING, Build, FileSource, Stack, Ulimit
from composer.value import Value

LARGEST_SECRET = 500 * 1024
"""Bytes, as BuildKit has it."""

BUILTIN = frozenset(
    (
        "BUILDKIT_CACHE_MOUNT_NS",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        "BUILDKIT_DOCKERFILE_CHECK",
        "BUILDKIT_INLINE_CACHE",
        "BUILDKIT_SANDBOX_HOSTNAME",
        "SOURCE_DATE_EPOCH",
    )
)
"""Build arguments that mean something without an ARG. What others of BuildKit's would do is not done here."""


class CachePlace(Value):
    """Where steps travel: a registry's `reference`, or the `tag` of an OCI layout in a `folder`.

    `least`: only the layers of the image itself (mode=min). `may_fail`: ignore-error.
    """

    reference: str = ""
    folder: str = ""
    tag: str = "latest"
    least: bool = True
    may_fail: bool = False

    def __str__(self) -> str:
        return f"{self.folder}:{self.tag}" if self.folder else self.reference


class Request(Value):
    """`images` are the names it gets, the first is its own. `after` are requests whose images it is made
    from. `secrets` are files (str) or contents (bytes), by id; `ssh` an agent's socket, or files of keys."""

    name: str
    images: tuple[str, ...]
    context: str
    dockerfile: str = "Dockerfile"
    inline: str = ""
    args: Mapping[str, str] = NOTHING
    target: str = ""
    contexts: Mapping[str, str] = NOTHING
    after: tuple[str, ...] = ()
    labels: Mapping[str, str] = NOTHING
    network: str = ""
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    push: bool = False
    secrets: Mapping[str, str | bytes] = NOTHING
    ssh: Mapping[str, tuple[str, ...]] = NOTHING
    extra_hosts: Mapping[str, tuple[str, ...]] = NOTHING
    shm_size: int = 0
    memory: int = 0
    ulimits: Mapping[str, Ulimit] = NOTHING
    insecure: bool = False
    cache_from: tuple[CachePlace, ...] = ()
    cache_to: tuple[CachePlace, ...] = ()
    cache_inline: bool = False
    """The image's own configuration says which steps it holds."""
    warnings: tuple[str, ...] = ()

    def secret(self, identity: str) -> bytes | None:
        """The bytes of a secret; None when the build was not given it. Raises ImageError."""
        source = self.secrets.get(identity)
        if source is None or isinstance(source, bytes):
            return source
        try:
            with open(source, "rb") as file:
                data = file.read(LARGEST_SECRET + 1)
        except OSError as error:
            raise ImageError(f"secret {identity}: cannot read {source}: {error.strerror}") from error
        if len(data) > LARGEST_SECRET:
            raise ImageError(f"secret {identity} is larger than {LARGEST_SECRET >> 10} KiB")
        return data

    def builtin(self, name: str) -> bool:
        """Whether the build argument BUILDKIT_… is true."""
        return self.args.get(f"BUILDKIT_{name}", "").lower() in ("1", "t", "true")


class Options(Value):
    """What the command line adds to every build."""

    args: Mapping[str, str] = NOTHING
    no_cache: bool = False
    pull: bool = False
    push: bool = False
    memory: int = 0
    ssh: tuple[str, ...] = ()


SERVICE = "service:"
_ELSEWHERE = ("oci-layout:", "target:", "input:")
_PRIVILEGES = {"security.insecure", "network.host"}


def requests(
    stack: Stack,
    images: Mapping[str, str],
    names: Iterable[str],
    options: Options,
    environment: Mapping[str, str],
) -> list[Request]:
    """The builds of services, and before them those whose images they are made from.

    `images` is the reference of every service. Raises UsageError.
    """
    found: dict[str, Request] = {}

    def add(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise UsageError(f"the builds of {' and '.join(above)} are made from each other")
        service = stack.services.get(name)
        if name in found:
            return
        if service is None or service.build is None:
            raise UsageError(f"service {name} has no `build:`, and another one's build is made from it")
        request = _request(stack, name, service.build, images, options, environment)
        for other in request.after:
            add(other, (*above, name))
        found[name] = request

    for name in names:
        add(name, ())
    return list(found.values())


def _request(
    stack: Stack,
    name: str,
    build: Build,
    images: Mapping[str, str],
    options: Options,
    environment: Mapping[str, str],
) -> Request:
    unknown = set(build.entitlements) - _PRIVILEGES
    if unknown:
        raise UsageError(f"service {name}: there is no build entitlement {sorted(unknown)[0]}")
    here, own = platform(), stack.services[name].platform
    key = "build.platforms" if build.platforms else "platform"
    wanted = build.platforms or (own or str(here),)
    if here not in [platform(text) for text in wanted]:
        raise UsageError(
            f"service {name}: {key} asks for {', '.join(wanted)}, and nothing of another machine runs here, "
            f"only {here}"
        )
    contexts = dict(build.additional_contexts)
    after = [text.removeprefix(SERVICE) for text in contexts.values() if text.startswith(SERVICE)]
    for key, text in contexts.items():
        if text.startswith(_ELSEWHERE):
            kind = text.partition(":")[0]
            raise UsageError(
                f"service {name}: build.additional_contexts.{key}: there are no {kind}: contexts here",
                hint="`composer image load` takes an archive of it, then `docker-image://NAME`",
            )
        if text.startswith(SERVICE):
            contexts[key] = f"docker-image://{images.get(text.removeprefix(SERVICE), '')}"
    travel = _Travel(name, stack.working_dir)
    request = Request(
        name=name,
        images=(images[name], *(tag for tag in build.tags if tag != images[name])),
        context=build.context,
        dockerfile=build.dockerfile or "Dockerfile",
        inline=build.dockerfile_inline,
        args={k: v for k, v in build.args.items() if v is not None} | dict(options.args),
        target=build.target,
        contexts=contexts,
        after=tuple(after),
        labels=build.labels,
        network=build.network,
        no_cache=build.no_cache or options.no_cache,
        no_cache_filter=build.no_cache_filter,
        pull=build.pull or options.pull,
        push=options.push,
        secrets=_secrets(stack.secrets, name, build),
        ssh=_agents((*build.ssh, *options.ssh), environment),
        extra_hosts=build.extra_hosts,
        shm_size=build.shm_size,
        memory=options.memory,
        ulimits=build.ulimits,
        insecure=build.privileged or "security.insecure" in build.entitlements,
        cache_from=travel.places("cache_from", build.cache_from),
        cache_to=travel.places("cache_to", build.cache_to),
        cache_inline=travel.inline,
        warnings=(*_warnings(name, build), *travel.warnings),
    )
    return request.replace(cache_inline=True) if request.builtin("INLINE_CACHE") else request


def _warnings(name: str, build: Build) -> Iterable[str]:
    if len(build.platforms) > 1:
        yield f"service {name}: of build.platforms only {platform()} is built, this machine's"
    if build.isolation:
        yield f"service {name}: build.isolation has no effect: it is a matter of Windows"
    if any(grant.uid or grant.gid or grant.mode is not None for grant in build.secrets):
        yield f"service {name}: uid, gid and mode of build.secrets have no effect: RUN --mount says them"


_NO_EFFECT = ("compression", "compression-level", "force-compression", "image-manifest", "oci-mediatypes")
_FIELDS = {
    ("cache_from", "registry"): {"ref"},
    ("cache_to", "registry"): {"ref", "mode", "ignore-error"},
    ("cache_from", "local"): {"src", "tag"},
    ("cache_to", "local"): {"dest", "tag", "mode", "ignore-error"},
    ("cache_to", "inline"): set(),
}
"""What may be said of the places that are known here."""


class _Travel:
    """Reads the entries of cache_from and cache_to: `REF`, or `type=registry,ref=…` and the like."""

    def __init__(self, service: str, folder: str) -> None:
        self.service, self.folder = service, folder
        self.inline = False
        self.warnings: list[str] = []

    def places(self, key: str, texts: Iterable[str]) -> tuple[CachePlace, ...]:
        """Raises UsageError. Places of a kind that is not known are warned of: builds go without them."""
        return tuple(place for text in texts if (place := self._place(key, text)) is not None)

    def _place(self, key: str, text: str) -> CachePlace | None:
        if "=" not in text:
            return CachePlace(text)
        fields = dict(part.strip().partition("=")[::2] for part in text.split(","))
        kind = fields.pop("type", "registry")
        known = _FIELDS.get((key, kind))
        where = f"service {self.service}: build.{key}: {text}"
        if known is None:
            self.warnings.append(f"{where}: there is no type {kind} here, and nothing is done about it")
            return None
        for name in fields.keys() - known:
            if name not in _NO_EFFECT:
                raise UsageError(
                    f"{where}: {name} is not known", hint=f"there are {', '.join(sorted(known))}"
                )
            self.warnings.append(f"{where}: {name} has no effect: layers are OCI's, compressed by zstd")
        if kind == "inline":
            self.inline = True
            return None
        place = fields.get("ref") or fields.get("src") or fields.get("dest") or ""
        if not place or fields.get("mode", "min") not in ("min", "max"):
            raise UsageError(f"{where}: {'mode is min or max' if place else 'it does not say where'}")
        return CachePlace(
            reference=fields.get("ref", ""),
            folder="" if "ref" in fields else os.path.normpath(os.path.join(self.folder, place)),
            tag=fields.get("tag", "latest"),
            least=fields.get("mode", "min") == "min",
            may_fail=fields.get("ignore-error", "") == "true",
        )


def _secrets(sources: Mapping[str, FileSource], name: str, build: Build) -> dict[str, str | bytes]:
    found: dict[str, str | bytes] = {}
    for grant in build.secrets:
        source = sources[grant.source]
        if source.external:
            raise UsageError(
                f"service {name}: the secret {grant.source} is external, and this host keeps none"
            )
        identity = os.path.basename(grant.target) if grant.target else grant.source
        found[identity] = source.file or (source.content or "").encode()
    return found


def _agents(texts: Iterable[str], environment: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """`default`, `id`, `id=socket`, `id=key,key`. Raises UsageError when there is nothing to use."""
    found = {}
    for text in texts:
        identity, _, path = text.partition("=")
        path = path or environment.get("SSH_AUTH_SOCK", "")
        if not path:
            raise UsageError(
                f"ssh {identity}: SSH_AUTH_SOCK is not set", hint="start an agent: `eval $(ssh-agent)`"
            )
        paths = tuple(path.split(","))
        for each in paths:
            if not Path(each).exists():
                raise UsageError(f"ssh {identity}: there is nothing at {each}")
        found[identity or "default"] = paths
    return found
