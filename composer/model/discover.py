"""Which files make up the stack: options, COMPOSE_* variables, .env, and the search in parent folders.

Pure: the disk is `Files`, the process's environment and folder are arguments.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from composer.errors import Complaint, Place, StackFileError, UsageError
from composer.model.dotenv import parse
from composer.model.load import Request
from composer.model.paths import join
from composer.model.reader import Files
from composer.value import Value

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_TRUE = {"1", "t", "true"}
_FALSE = {"0", "f", "false"}


class Found(Value):
    """`request` has no files when there are none; whoever needs only a name can go on."""

    request: Request
    warnings: tuple[Complaint, ...] = ()


def discover(
    files: Files,
    folder: str,
    environment: Mapping[str, str],
    *,
    file: Sequence[str] = (),
    project_directory: str | None = None,
    project_name: str | None = None,
    profile: Sequence[str] = (),
    env_file: Sequence[str] = (),
    services: Sequence[str] = (),
) -> Found:
    """The request for the options of a command line that runs in `folder` (absolute).

    UsageError: a variable that steers the search makes no sense. StackFileError: a named file is not there.
    """
    named = tuple(one for one in environment.get("COMPOSE_ENV_FILES", "").split(",") if one)
    wanted_env = tuple(_absolute(folder, one) for one in (tuple(env_file) or named))
    use_default = not wanted_env and _default_env_file(environment)
    home = _absolute(folder, project_directory) if project_directory else None
    chosen = [one if one == "-" else _absolute(folder, one) for one in file]
    env_files = list(wanted_env)
    start = home or _folder_of(chosen) or folder
    if use_default:
        env_files = [one for one in [join(start, ".env")] if _is_file(files, one)]
    known = _variables(files, env_files, environment)
    warnings: list[Complaint] = []
    if not chosen and known.get("COMPOSE_FILE"):
        separator = known.get("COMPOSE_PATH_SEPARATOR") or ":"
        chosen = [
            one if one == "-" else _absolute(folder, one) for one in known["COMPOSE_FILE"].split(separator)
        ]
        for one in chosen:
            if one != "-" and not files.exists(one):
                raise StackFileError(
                    [
                        Complaint(
                            "does not exist", Place(one), hint="COMPOSE_FILE names it; correct or unset it"
                        )
                    ]
                )
    if not chosen:
        chosen = _search(files, start, warnings)
    home = home or _folder_of(chosen) or folder
    own = join(home, ".env")
    if use_default and own not in env_files and _is_file(files, own):
        env_files.insert(0, own)
        known = _variables(files, env_files, environment)
    profiles = tuple(profile) or tuple(one.strip() for one in known.get("COMPOSE_PROFILES", "").split(","))
    request = Request(
        files=tuple(chosen),
        project_directory=home,
        project_name=project_name or known.get("COMPOSE_PROJECT_NAME") or None,
        profiles=profiles,
        environment=environment,
        env_files=tuple(env_files),
        services=tuple(services),
    )
    return Found(request, tuple(warnings))


def _absolute(folder: str, path: str) -> str:
    return path if path.startswith("/") else join(folder, path)


def _folder_of(chosen: list[str]) -> str | None:
    """The folder of the first file that is one."""
    return next((posixpath.dirname(one) for one in chosen if one != "-"), None)


def _default_env_file(environment: Mapping[str, str]) -> bool:
    told = environment.get("COMPOSE_DISABLE_ENV_FILE")
    if told is None or told.lower() in _FALSE:
        return True
    if told.lower() in _TRUE:
        return False
    raise UsageError(f"COMPOSE_DISABLE_ENV_FILE is `{told}`", hint="set it to true or false, or unset it")


def _is_file(files: Files, path: str) -> bool:
    try:
        files.read(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    return True


def _variables(files: Files, env_files: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in env_files:
        try:
            text = files.read(file).decode("utf-8", "replace")
        except FileNotFoundError:
            raise StackFileError([Complaint("the env file does not exist", Place(file))]) from None
        except OSError as error:
            raise StackFileError(
                [Complaint(f"cannot be read: {error.strerror or error}", Place(file))]
            ) from None
        told = parse(text, environment.get, file, dict(found).get)
        found |= {key: value for key, value in told.items() if value is not None}
    return {**found, **environment}


def _search(files: Files, folder: str, warnings: list[Complaint]) -> list[str]:
    """The first known name in `folder` or the nearest parent that has one, and its override."""
    while True:
        found = [path for name in NAMES if files.exists(path := join(folder, name))]
        if found:
            overrides = [path for name in OVERRIDES if files.exists(path := join(folder, name))]
            for many in (found, overrides):
                if len(many) > 1:
                    others = ", ".join(map(posixpath.basename, many[1:]))
                    warnings.append(
                        Complaint(
                            f"is taken; also here, but not read: {others}", Place(many[0]), warning=True
                        )
                    )
            return found[:1] + overrides[:1]
        parent = posixpath.dirname(folder)
        if parent == folder:
            return []
        folder = parent
