"""Images pinned to digests: what a registry, or with --offline the store, has under a tag right now."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from composer.cli.context import Context
from composer.errors import NotFoundError
from composer.images.builtin import NAMES
from composer.images.reference import Reference, parse

AT_ONCE = 8


def pinned(images: Mapping[str, str], context: Context) -> dict[str, str]:
    """For each service its image by digest; `host` and `scratch` stay. Raises ImageError, NotFoundError."""
    names = sorted({image for image in images.values() if image not in NAMES})

    def by_digest(name: str) -> str:
        reference = parse(name)
        if reference.digest:
            return str(reference.replace(tag=None))
        return str(reference.replace(digest=digest_of(reference, context)))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(zip(names, pool.map(by_digest, names), strict=True))
    return {service: found.get(image, image) for service, image in images.items()}


def digest_of(reference: Reference, context: Context) -> str:
    if not context.options.get("offline"):
        from composer.images.transfer import digest

        return digest(reference)
    from composer.images.store import SOURCE, Store

    entry = Store(context.paths).entry(str(reference))
    source = entry.get("annotations", {}).get(SOURCE) if entry else None
    if not source:
        raise NotFoundError(
            f"no digest of {reference.familiar} is known on this host",
            hint="pull the image, or leave --offline away",
        )
    return str(source).rpartition("@")[2]
