"""The JSON documents of images as types: OCI image-spec 1.1 and Docker's schema 2. Nothing here runs.

Imported for type checking only: defining typed dictionaries takes 2 ms, which no command has to spare.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Descriptor(TypedDict):
    mediaType: str
    digest: str
    size: int
    platform: NotRequired[dict[str, Any]]
    annotations: NotRequired[dict[str, str]]


class Manifest(TypedDict):
    schemaVersion: int
    mediaType: str
    config: Descriptor
    layers: list[Descriptor]


class Index(TypedDict):
    schemaVersion: int
    mediaType: str
    manifests: list[Descriptor]


class Healthcheck(TypedDict, total=False):
    Test: list[str]
    Interval: int
    Timeout: int
    StartPeriod: int
    StartInterval: int
    Retries: int


class Process(TypedDict, total=False):
    """What a container of the image is started with; durations in nanoseconds."""

    User: str
    ExposedPorts: dict[str, dict[str, Any]]
    Env: list[str]
    Entrypoint: list[str]
    Cmd: list[str]
    Volumes: dict[str, dict[str, Any]]
    WorkingDir: str
    Labels: dict[str, str]
    StopSignal: str
    Healthcheck: Healthcheck
    Shell: list[str]
    OnBuild: list[str]


class Rootfs(TypedDict):
    type: str
    diff_ids: list[str]


class History(TypedDict, total=False):
    created: str
    created_by: str
    author: str
    comment: str
    empty_layer: bool


class ImageConfig(TypedDict):
    architecture: str
    os: str
    rootfs: Rootfs
    variant: NotRequired[str]
    created: NotRequired[str]
    author: NotRequired[str]
    config: NotRequired[Process]
    history: NotRequired[list[History]]
