"""What containers need before they can be made: images, networks, volumes. And their end, when a goal clears.

Each function yields actions and reports, per service, what has to be there first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from composer.model.stack import SECOND, Service
from composer.plan.actions import (
    Action,
    BuildImage,
    CreateNetwork,
    CreateVolume,
    PullImage,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
)
from composer.plan.observed import Container, ImageState, Observed
from composer.plan.options import Desired, Options

BUILT_IN = frozenset(("host", "scratch"))
"""Images that are never pulled."""

DAY = 24 * 3600 * SECOND
PERIODS: Mapping[str, int] = {"daily": DAY, "weekly": 7 * DAY}
UNITS: Mapping[str, int] = {
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": DAY,
    "w": 7 * DAY,
}


class Need:
    """What a service waits for before its containers can be made.

    `final`: it will never come. `leaving`: it only comes when the old containers are gone.
    """

    __slots__ = ("action", "final", "leaving", "reason")

    def __init__(
        self, reason: str, *, action: Action | None = None, final: bool = False, leaving: bool = False
    ) -> None:
        self.reason, self.action, self.final, self.leaving = reason, action, final, leaving


def period(policy: str) -> int | None:
    """Nanoseconds of `daily`, `weekly`, `every_12h`, `every_1d6h`; None for other policies."""
    if policy in PERIODS:
        return PERIODS[policy]
    if not policy.startswith("every_"):
        return None
    total = number = 0
    for char in policy.removeprefix("every_"):
        if char.isdigit():
            number = number * 10 + int(char)
        else:
            total += number * UNITS.get(char, 0)
            number = 0
    return total


def image_need(
    desired: Desired, observed: Observed, options: Options, image: str, users: list[Service], now: int
) -> Need | None:
    """The image that some services lack, or that a pull policy of theirs wants looked at again."""
    known = observed.images.get(image)
    builder = desired.builders.get(image)
    if builder and not options.no_build:
        because = _why_build(known, options, builder.pull_policy)
        build = BuildImage(because=because, image=image, service=builder.name)
        return Need(f"image {image} to be built", action=build) if because else None
    if image in BUILT_IN:
        return None
    service = users[0]
    policy = options.pull or service.pull_policy
    if known is None and policy == "never":
        return Need(f"image {image} is not here, and the pull policy is never", final=True)
    because = _why_pull(known, options, policy, now)
    if not because:
        return None
    names = tuple(user.name for user in users)
    pull = PullImage(because=because, image=image, services=names, platform=service.platform)
    return Need(f"image {image} to be pulled", action=pull)


def _why_build(known: ImageState | None, options: Options, policy: str) -> str:
    if known is None:
        return "missing"
    if known.checked_at >= options.since:
        return ""
    if options.build:
        return "--build"
    return "pull_policy build" if policy == "build" else ""


def _why_pull(known: ImageState | None, options: Options, policy: str, now: int) -> str:
    if known is None:
        return "missing"
    if policy == "always":
        return "pull policy always" if known.checked_at < options.since else ""
    every = period(policy)
    return f"pull policy {policy}" if every is not None and known.checked_at + every <= now else ""


def network_needs(
    desired: Desired,
    observed: Observed,
    drifted: frozenset[str],
    used: Iterable[str],
    staying: Collection[str],
) -> Iterator[tuple[str, Need]]:
    """(key, need) of every network in use that is not there as it should be.

    `staying` are names of containers that this plan does not touch.
    """
    for key in sorted(used):
        network = desired.stack.networks.get(key)
        if network is None:
            continue
        state = observed.networks.get(network.name)
        if state is None and network.external:
            remedy = f"`composer network create {network.name}` makes it"
            yield key, Need(f"external network {network.name} does not exist ({remedy})", final=True)
        elif state is None:
            digest = desired.network_digests.get(key, "")
            create = CreateNetwork(because="missing", key=key, name=network.name, digest=digest)
            yield key, Need(f"network {network.name} to be created", action=create)
        elif not network.external and state.owner != desired.stack.name:
            owner = f"belongs to {state.owner}" if state.owner else "was not made by a stack"
            yield (
                key,
                Need(f"network {network.name} exists and {owner}: call it external to use it", final=True),
            )
        elif network.name in drifted:
            yield key, _renewal(key, network.name, observed, staying)


def _renewal(key: str, name: str, observed: Observed, staying: Collection[str]) -> Need:
    """A network whose definition changed: everybody leaves, it goes, and then it is missing."""
    users = [container.name for container in observed.containers if name in container.networks]
    kept = [user for user in users if user in staying]
    if kept:
        return Need(
            f"network {name} changed, but {', '.join(kept)} uses it and is not of this plan", final=True
        )
    if users:
        return Need(f"network {name} to be left by {', '.join(users)}", leaving=True)
    remove = RemoveNetwork(because="recreate: its definition changed", key=key, name=name)
    return Need(f"network {name} to be removed", action=remove)


def volume_needs(desired: Desired, observed: Observed, used: Iterable[str]) -> Iterator[tuple[str, Need]]:
    """(key, need) of every named volume in use that does not exist. What exists is used, whoever made it."""
    for key in sorted(used):
        volume = desired.stack.volumes.get(key)
        if volume is None or volume.name in observed.volumes:
            continue
        if volume.external:
            yield key, Need(f"external volume {volume.name} does not exist", final=True)
        else:
            create = CreateVolume(because="missing", key=key, name=volume.name)
            yield key, Need(f"volume {volume.name} to be created", action=create)


def volume_keys(service: Service) -> tuple[str, ...]:
    return tuple(mount.source for mount in service.volumes if mount.type == "volume" and mount.source)


def leftovers(desired: Desired, observed: Observed, options: Options) -> Iterator[Action]:
    """What goes once no container uses it any more: our networks; declared volumes and images if asked."""
    users = observed.containers
    yield from _idle_networks(desired, observed, users, options.goal, declared=True)
    if options.volumes:
        mounted = {name for container in users for name in container.volumes}
        for key, volume in sorted(desired.stack.volumes.items()):
            state = observed.volumes.get(volume.name)
            if (
                state
                and not volume.external
                and state.owner == desired.stack.name
                and volume.name not in mounted
            ):
                yield RemoveVolume(because="down --volumes", key=key, name=volume.name)
    if options.images:
        running = {container.image for container in users}
        for image in sorted(
            {desired.image(s) for s in desired.stack.services.values() if _removable(s, options)}
        ):
            if image in observed.images and image not in running and image not in BUILT_IN:
                yield RemoveImage(because=f"down --rmi {options.images}", image=image)


def _removable(service: Service, options: Options) -> bool:
    """`local` means images without a name of their own: those we built and named ourselves."""
    return options.images == "all" or not service.image


def undeclared_networks(desired: Desired, observed: Observed) -> Iterator[Action]:
    """Our networks that the files no longer name and nobody uses."""
    yield from _idle_networks(desired, observed, observed.containers, "no longer declared", declared=False)


def _idle_networks(
    desired: Desired, observed: Observed, users: Iterable[Container], because: str, *, declared: bool
) -> Iterator[Action]:
    used = {name for container in users for name in container.networks}
    names = {network.name for network in desired.stack.networks.values()}
    for name, state in sorted(observed.networks.items()):
        if state.owner == desired.stack.name and name not in used and (declared or name not in names):
            yield RemoveNetwork(because=because, key=state.key or name, name=name)
