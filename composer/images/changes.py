"""Changes to an image's configuration as `commit --change` and `import --change` take them. Pure.

The instructions of a Dockerfile that touch no file, in the forms Docker allows there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from composer.errors import ImageError

if TYPE_CHECKING:
    from composer.images.documents import ImageConfig


def changed(config: ImageConfig, changes: tuple[str, ...]) -> ImageConfig:
    """`config` with each instruction applied, in order. Raises ImageError."""
    result: ImageConfig = json.loads(json.dumps(config))
    process: dict[str, Any] = result.setdefault("config", {})  # type: ignore[assignment]
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        step, rest = _STEPS.get(word.upper()), rest.strip()
        if step is None:
            known = ", ".join(sorted(_STEPS))
            raise ImageError(
                f"{change!r} is not a change to an image", hint=f"a change begins with one of {known}"
            )
        if not rest:
            raise ImageError(f"the change {change!r} lacks its value")
        step(process, rest)
    return result


def _pairs(text: str) -> dict[str, str]:
    """`a=b "c=d e"`, or the old form `a b c`, which is one pair."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ImageError(f"the quotes in {text!r} do not match") from error
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value:
            raise ImageError(f"{text!r} is not of the form NAME=value")
        return {name: value.strip()}
    if bad := [word for word in words if "=" not in word]:
        raise ImageError(f"{bad[0]!r} is not of the form NAME=value")
    return dict(word.split("=", 1) for word in words)


def _argv(text: str) -> list[str]:
    """A JSON list, or a line for the shell."""
    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
    return ["/bin/sh", "-c", text]


def _env(process: dict[str, Any], text: str) -> None:
    now = dict(entry.partition("=")[::2] for entry in process.get("Env") or [])
    process["Env"] = [f"{name}={value}" for name, value in {**now, **_pairs(text)}.items()]


def _labels(process: dict[str, Any], text: str) -> None:
    process["Labels"] = {**(process.get("Labels") or {}), **_pairs(text)}


def _entrypoint(process: dict[str, Any], text: str) -> None:
    process["Entrypoint"] = _argv(text)
    process.pop("Cmd", None)  # it was meant for the entrypoint before


def _expose(process: dict[str, Any], text: str) -> None:
    ports: dict[str, dict[str, Any]] = {word if "/" in word else f"{word}/tcp": {} for word in text.split()}
    process["ExposedPorts"] = {**(process.get("ExposedPorts") or {}), **ports}


def _volumes(process: dict[str, Any], text: str) -> None:
    try:
        paths = json.loads(text) if text.startswith("[") else shlex.split(text)
    except ValueError as error:
        raise ImageError(f"{text!r} is not a list of paths") from error
    process["Volumes"] = {**(process.get("Volumes") or {}), **{str(path): {} for path in paths}}


def _onbuild(process: dict[str, Any], text: str) -> None:
    process["OnBuild"] = [*(process.get("OnBuild") or []), text]


def _set(key: str, cast: Callable[[str], Any] = str) -> Callable[[dict[str, Any], str], None]:
    def step(process: dict[str, Any], text: str) -> None:
        process[key] = cast(text)

    return step


_STEPS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _set("Cmd", _argv),
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _labels,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _set("StopSignal"),
    "USER": _set("User"),
    "VOLUME": _volumes,
    "WORKDIR": _set("WorkingDir"),
}
