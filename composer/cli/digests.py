"""Images pinned to digests: what a registry, or with --offline the store, has under a tag right now."""

from __future__ import annotations

from collections.abc import Mapping

from composer.cli.context import Context
from composer.errors import ComposerError, NotFoundError
from composer.images.builtin import NAMES
from composer.images.reference import Reference, parse

AT_ONCE = 8  # questions to registries


def pinned(images: Mapping[str, str], context: Context) -> dict[str, str]:
    """For each service its image by digest; `host` and `scratch` stay. Raises ImageError, NotFoundError."""
    references = {image: parse(image) for image in sorted(set(images.values())) if image not in NAMES}
    open_ones = {reference for reference in references.values() if not reference.digest}
    digests = kept(open_ones, context) if context.options.get("offline") else asked(open_ones)
    found = {
        image: str(one.replace(tag=None) if one.digest else one.replace(digest=digests[one]))
        for image, one in references.items()
    }
    return {service: found.get(image, image) for service, image in images.items()}


def asked(references: set[Reference]) -> dict[Reference, str]:
    """Digests as registries know them. Raises RegistryError."""
    import anyio

    from composer.images.transfer import digest

    found: dict[Reference, str] = {}

    async def ask() -> None:
        limit = anyio.CapacityLimiter(AT_ONCE)

        async def ask_one(reference: Reference) -> None:
            async with limit:
                found[reference] = await digest(reference)

        async with anyio.create_task_group() as group:
            for reference in references:
                group.start_soon(ask_one, reference)

    try:
        anyio.run(ask)
    except ExceptionGroup as group:
        first = next((one for one in group.exceptions if isinstance(one, ComposerError)), group)
        raise first from None
    return found


def kept(references: set[Reference], context: Context) -> dict[Reference, str]:
    """Digests as they were when the images were pulled. Raises NotFoundError."""
    from composer.images.store import SOURCE, Store

    found = {}
    for reference in references:
        entry = Store(context.paths).entry(str(reference))
        source = entry.get("annotations", {}).get(SOURCE) if entry else None
        if not source:
            raise NotFoundError(
                f"no digest of {reference.familiar} is known on this host",
                hint="pull the image, or leave --offline away",
            )
        found[reference] = str(source).rpartition("@")[2]
    return found
