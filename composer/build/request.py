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


class Request(Value):
    """`images` are the names it gets, the first is its own. `after` are requests whose images it is made
    from. `secrets` are files (str) or contents (bytes), by id; `ssh` sockets of agents, by id."""

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
    ssh: Mapping[str, str] = NOTHING
    extra_hosts: Mapping[str, tuple[str, ...]] = NOTHING
    shm_size: int = 0
    memory: int = 0
    ulimits: Mapping[str, Ulimit] = NOTHING
    insecure: bool = False
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


class Options(Value):
    """What the command line adds to every build."""

    args: Mapping[str, str] = NOTHING
    no_cache: bool = False
    pull: bool = False
    push: bool = False
    memory: int = 0
    ssh: tuple[str, ...] = ()


SERVICE = "service:"
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
    here = platform()
    if build.platforms and here not in [platform(text) for text in build.platforms]:
        raise UsageError(
            f"service {name}: build.platforms asks for {', '.join(build.platforms)}, and nothing of another "
            f"machine runs here, only {here}"
        )
    contexts = dict(build.additional_contexts)
    after = [text.removeprefix(SERVICE) for text in contexts.values() if text.startswith(SERVICE)]
    for key, text in contexts.items():
        if text.startswith(SERVICE):
            contexts[key] = f"docker-image://{images.get(text.removeprefix(SERVICE), '')}"
    return Request(
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
        warnings=tuple(_warnings(name, build)),
    )


def _warnings(name: str, build: Build) -> Iterable[str]:
    if len(build.platforms) > 1:
        yield f"service {name}: of build.platforms only {platform()} is built, this machine's"
    for key, what in (
        ("cache_from", "steps are looked up in this host's own cache"),
        ("cache_to", "steps are kept in this host's own cache"),
        ("isolation", "it is a matter of Windows"),
    ):
        if getattr(build, key):
            yield f"service {name}: build.{key} has no effect: {what}"


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


def _agents(texts: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """`default`, `id`, `id=socket`. Raises UsageError when there is no agent to use."""
    found = {}
    for text in texts:
        identity, _, path = text.partition("=")
        path = path or environment.get("SSH_AUTH_SOCK", "")
        if not path:
            raise UsageError(
                f"ssh {identity}: SSH_AUTH_SOCK is not set", hint="start an agent: `eval $(ssh-agent)`"
            )
        if not Path(path).exists():
            raise UsageError(f"ssh {identity}: there is nothing at {path}")
        found[identity or "default"] = path
    return found
