"""Manifests, indexes and configurations of images as types, and the checks strangers' JSON must pass.

Pure.

OCI image-spec 1.1 (manifest.md, image-index.md, config.md, descriptor.md) and Docker's image manifest
schema 2.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from composer.errors import ImageError
from composer.images.reference import is_digest
from composer.value import Value

if TYPE_CHECKING:
    from composer.images.documents import Descriptor, ImageConfig, Index, Manifest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
LAYERS = (
    OCI_LAYER,
    f"{OCI_LAYER}+gzip",
    f"{OCI_LAYER}+zstd",
    DOCKER_LAYER,
    f"{DOCKER_LAYER}.gzip",
    f"{DOCKER_LAYER}.zstd",
)

MAX_DOCUMENT = 8 * 1024 * 1024  # bytes of a manifest, an index or a configuration
MAX_LAYERS = 500  # what one overlay can stack (OVL_MAX_STACK)


class Platform(Value):
    """An operating system and a machine in the words of Go's GOOS and GOARCH."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


_SAME = {
    "aarch64": ("arm64", ""),
    "armel": ("arm", "v6"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "x86-64": ("amd64", ""),
    "x86_64": ("amd64", ""),
}
_IMPLIED = {("arm64", "v8"), ("amd64", "v1")}


def platform(text: str | None = None) -> Platform:
    """`os[/architecture[/variant]]` or just an architecture, in normal form; this machine's for None."""
    parts = (text or os.uname().machine).lower().split("/")
    if len(parts) > 3 or not all(parts):
        raise ImageError(
            f"{text!r} is not a platform", hint="a platform looks like linux/amd64 or linux/arm/v7"
        )
    if len(parts) == 1:
        parts = [parts[0], os.uname().machine] if parts[0] == "linux" else ["linux", parts[0]]
    return _normal(parts[0], parts[1], parts[2] if len(parts) == 3 else "")


def _normal(system: str, architecture: str, variant: str) -> Platform:
    architecture, implied = _SAME.get(architecture, (architecture, ""))
    variant = variant or implied
    return Platform(system, architecture, "" if (architecture, variant) in _IMPLIED else variant)


def platform_of(value: dict[str, Any]) -> Platform:
    """The platform a descriptor or a configuration says it is for."""
    return _normal(*(str(value.get(key) or "").lower() for key in ("os", "architecture", "variant")))


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The first manifest for `wanted`, else one for the same machine without or with a lesser variant.

    Raises ImageError naming what there is.
    """
    offered = [(platform_of(entry.get("platform") or {}), entry) for entry in index["manifests"]]
    same = [(p, e) for p, e in offered if (p.os, p.architecture) == (wanted.os, wanted.architecture)]
    for have, entry in same:
        if have.variant == wanted.variant:
            return entry
    for have, entry in sorted(same, key=lambda pair: pair[0].variant, reverse=True):
        if not wanted.variant or have.variant <= wanted.variant:
            return entry
    known = sorted({str(p) for p, _ in offered if p.os not in ("", "unknown")})
    there = f"it is there for {', '.join(known)}" if known else "its index names no platform"
    raise ImageError(f"there is no such image for {wanted}", hint=there)


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises ImageError, also for depth bombs and doubtful text."""
    if len(data) > MAX_DOCUMENT:
        raise ImageError(f"{what} is larger than {MAX_DOCUMENT // 2**20} MiB")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ImageError(f"{what} is not a JSON object")
    return value


def parse_manifest(data: bytes, media_type: str = "") -> Manifest:
    """The manifest of one image. Raises ImageError, also for an index."""
    document = parse_document(data, media_type)
    if document["mediaType"] in INDEXES:
        raise ImageError("there is an index of images where one image's manifest was expected")
    return cast("Manifest", document)


def parse_index(data: bytes, media_type: str = "") -> Index:
    """An index of manifests. Raises ImageError, also for a manifest."""
    document = parse_document(data, media_type)
    if document["mediaType"] not in INDEXES:
        raise ImageError("there is one image's manifest where an index was expected")
    return cast("Index", document)


def parse_document(data: bytes, media_type: str = "") -> Manifest | Index:
    """A manifest or an index. A document must be of one kind only, and of the kind its media type says.

    (CVE-2021-41190: a document that is both means different things to different readers.)
    """
    value = parse_json(data, "the manifest")
    if value.get("schemaVersion") != 2:
        raise ImageError(
            f"the manifest has schema version {value.get('schemaVersion')!r}, only 2 is in use today"
        )
    has_layers, has_manifests = "layers" in value or "config" in value, "manifests" in value
    kind = value.get("mediaType") or media_type or (OCI_INDEX if has_manifests else OCI_MANIFEST)
    if media_type in (*MANIFESTS, *INDEXES) and kind != media_type:
        raise ImageError(f"the manifest was announced as {media_type} but says it is {kind}")
    if has_layers == has_manifests or kind not in (INDEXES if has_manifests else MANIFESTS):
        raise ImageError(f"a document of type {kind!r} is no manifest and no index of an image")
    if has_manifests:
        manifests = _descriptors(value["manifests"], "manifests")
        return {"schemaVersion": 2, "mediaType": kind, "manifests": manifests}
    layers = _descriptors(value.get("layers"), "layers")
    config = parse_descriptor(value.get("config"), "config")
    if config["mediaType"] not in CONFIGS:
        raise ImageError(f"this is not a container image but {config['mediaType']!r}")
    for layer in layers:
        if layer["mediaType"] not in LAYERS:
            raise ImageError(f"a layer has the type {layer['mediaType']!r}, which is not supported")
    return {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}


def parse_config(data: bytes) -> ImageConfig:
    """An image configuration whose needed parts have the right shape. Raises ImageError."""
    value = parse_json(data, "the image configuration")
    rootfs, process = value.get("rootfs"), value.get("config")
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids"), list | None):
        raise ImageError("the image configuration has no rootfs")
    rootfs["diff_ids"] = rootfs.get("diff_ids") or []
    for diff_id in rootfs["diff_ids"]:
        if not isinstance(diff_id, str) or not is_digest(diff_id):
            raise ImageError(f"the image configuration has a diff id that is no digest: {diff_id!r:.100}")
    if process is None:
        value["config"] = process = {}
    if not isinstance(process, dict):
        raise ImageError("the image configuration's config is not a mapping")
    _check(value, _WHOLE)
    _check(process, _PROCESS)
    _check(process.get("Healthcheck") or {}, _HEALTH, "Healthcheck.")
    for step in value.get("history") or ():
        _check(step, _STEP, "history.")
    for key in ("architecture", "os"):
        value[key] = value.get(key) or ""
    return value  # type: ignore[return-value]


_WHOLE = {
    **dict.fromkeys(("architecture", "os", "variant", "created", "author", "comment"), "string"),
    "history": "list of mappings",
}
_PROCESS = {
    **dict.fromkeys(("User", "WorkingDir", "StopSignal"), "string without zeros"),
    **dict.fromkeys(("Env", "Entrypoint", "Cmd", "Shell", "OnBuild"), "list of strings"),
    **dict.fromkeys(("ExposedPorts", "Volumes", "Healthcheck"), "mapping"),
    "Labels": "mapping to strings",
}
_HEALTH = {
    "Test": "list of strings",
    **dict.fromkeys(("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"), "number"),
}
_STEP = dict.fromkeys(("created", "created_by", "author", "comment"), "string")
_FITS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "string without zeros": lambda value: isinstance(value, str) and "\0" not in value,
    "number": lambda value: isinstance(value, int) and abs(value) < 1 << 63,
    "mapping": lambda value: isinstance(value, dict),
    "mapping to strings": lambda value: isinstance(value, dict) and all(map(_FITS["string"], value.values())),
    "list of strings": lambda value: (
        isinstance(value, list) and all(map(_FITS["string without zeros"], value))
    ),
    "list of mappings": lambda value: isinstance(value, list) and all(map(_FITS["mapping"], value)),
}


def _check(value: Mapping[str, Any], shapes: Mapping[str, str], where: str = "") -> None:
    """What is null is as good as absent."""
    for key, kind in shapes.items():
        if value.get(key) is not None and not _FITS[kind](value[key]):
            raise ImageError(f"the image configuration's {where}{key} is not a {kind}")


def parse_descriptor(value: Any, what: str) -> Descriptor:
    """A descriptor with a digest that can be verified and a size that can be held to."""
    fields = value if isinstance(value, dict) else {}
    kind, digest, size = fields.get("mediaType"), fields.get("digest"), fields.get("size")
    if not isinstance(kind, str) or not isinstance(digest, str) or not is_digest(digest):
        raise ImageError(f"the manifest's {what} has no media type or no valid digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageError(f"the manifest's {what} has no valid size")
    descriptor: Descriptor = {"mediaType": kind, "digest": digest, "size": size}
    if isinstance(fields.get("platform"), dict):
        descriptor["platform"] = fields["platform"]
    if isinstance(fields.get("annotations"), dict):
        descriptor["annotations"] = fields["annotations"]
    return descriptor


def _descriptors(value: Any, what: str) -> list[Descriptor]:
    if not isinstance(value, list) or len(value) > MAX_LAYERS:
        raise ImageError(f"the manifest's {what} is not a list of at most {MAX_LAYERS}")
    return [parse_descriptor(item, f"{what}[{number}]") for number, item in enumerate(value)]
