"""What an image is to the rest of composer: an id, a configuration and directories to stack. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from composer.value import Value


class RootOverlay(Value):
    """One overlay of a container's root. `lowers` are absolute directories, topmost first.

    `target` is a path in the container; the first overlay of an image is always the one at "/".
    """

    target: str
    lowers: tuple[str, ...]


class Image(Value):
    """An image that is complete on this host.

    `id` is the digest of the configuration ("sha256:…"), or "host" or "scratch". `config` is the OCI image
    configuration (image-spec, config.md). `digests` are the manifest digests it was pulled by. `size` is
    bytes of content as stored. `pulled`: when it came or was last confirmed, in seconds since the epoch.
    """

    id: str
    reference: str
    config: Mapping[str, Any]
    root: tuple[RootOverlay, ...]
    digests: tuple[str, ...] = ()
    size: int = 0
    pulled: int = 0


class Summary(Value):
    """One line of a list of images.

    Sizes in bytes: `size` unpacked, `stored` as kept; times since the epoch.
    """

    id: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    platform: str
    created: str
    pulled: int
    used: int
    size: int
    stored: int


class Progress(Value):
    """How far one blob has come, in bytes.

    `status` is waiting, downloading, unpacking, uploading, exists or done.
    """

    digest: str
    status: str
    current: int = 0
    total: int = 0
