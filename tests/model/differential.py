"""Compare `config` with Docker Compose's own, on a folder of stack files; print the differences by path.

    python -m tests.model.differential FOLDER… [--docker-compose PROGRAM] [--text]

Each `*.yaml` is a case; a folder with a `compose.yaml` is one with everything beside it. The first lines
may say `# args: …` (options for both: --profile, -f, --env-file, -p), `# env: A=b …` and `# config: …`
(options and services of `config` itself). Needs the `docker-compose` program (`config` needs no engine).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from composer.cli.config import written
from composer.errors import ComposerError
from composer.model import output
from composer.model.discover import discover
from composer.model.load import Request, resolve
from composer.model.tree import Source


class Case(NamedTuple):
    file: Path
    options: tuple[str, ...]
    environment: dict[str, str]
    config: tuple[str, ...] = ()


class Disk:
    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def exists(self, path: str) -> bool:
        return Path(path).exists()


class Verdict(NamedTuple):
    """What one of the two makes of a case: texts, or the reason why it refuses."""

    yaml: str = ""
    json: str = ""
    refusal: str = ""


def cases(folder: Path) -> Iterator[Case]:
    """Every case below `folder`, sorted."""
    folders = {path.parent for path in folder.rglob("compose.yaml")}
    for path in sorted(folder.rglob("*.y*ml")):
        inside = next((parent for parent in path.parents if parent in folders), None)
        if inside is None or (path.name == "compose.yaml" and not any(p in folders for p in inside.parents)):
            yield case(path)


def case(path: Path) -> Case:
    options: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    environment = {}
    for line in path.read_bytes().decode("utf-8", "replace").splitlines()[:3]:
        if line.startswith("# args:"):
            options = tuple(shlex.split(line.removeprefix("# args:")))
        elif line.startswith("# env:"):
            environment = dict(pair.split("=", 1) for pair in shlex.split(line.removeprefix("# env:")))
        elif line.startswith("# config:"):
            config = tuple(shlex.split(line.removeprefix("# config:")))
    return Case(path, options, environment, config)


_GIVEN = {"HOME": "/home/user", "PATH": os.environ.get("PATH", "")}


def theirs(case: Case, program: str) -> Verdict:
    environment = {**_GIVEN, **case.environment, "PWD": str(case.file.parent.resolve())}
    start = [program, "-f", str(case.file.name)] if "-f" not in case.options else [program]
    texts: list[str] = []
    for style in ("yaml", "json"):
        done = subprocess.run(
            [*start, *case.options, "config", "--format", style, *case.config],
            cwd=case.file.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode and style == "json":
            return Verdict(texts[0])  # a few values break their JSON writer
        if done.returncode:
            return Verdict(refusal=done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "?")
        texts.append(done.stdout)
    return Verdict(*texts)


def _options(case: Case) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--file", "--profile", "--env-file"):
        parser.add_argument(name, *(["-f"] if name == "--file" else []), action="append", default=[])
    parser.add_argument("--project-name", "-p")
    parser.add_argument("--project-directory")
    return parser.parse_args(case.options)


def request(case: Case, given: dict[str, str]) -> Request:
    options = _options(case)
    folder = str(case.file.parent.resolve())
    return discover(
        Disk(),
        folder,
        {**given, **case.environment, "PWD": folder},
        file=options.file or [case.file.name],
        profile=options.profile,
        env_file=options.env_file,
        project_name=options.project_name,
        project_directory=options.project_directory,
        services=[one for one in case.config if not one.startswith("-")],
    ).request.replace(**{one[2:].replace("-", "_"): True for one in case.config if one.startswith("-")})


def ours(case: Case) -> Verdict:
    try:
        wanted = request(case, _GIVEN)
        config = resolve(wanted, Disk()).config
    except ComposerError as error:
        return Verdict(refusal=error.message)
    if wanted.no_interpolate:
        return Verdict(written(config, "yaml"), written(config, "json"))
    return Verdict(output.yaml_text(config), output.json_text(config))


def differences(case: Case, program: str, *, text: bool = False) -> list[str]:
    """One line per difference; with `text`, the printed bytes count too."""
    their, our = theirs(case, program), ours(case)
    if bool(their.refusal) != bool(our.refusal):
        return [f"they refuse: {their.refusal}" if their.refusal else f"we refuse: {our.refusal}"]
    if their.refusal:
        return []
    found = list(_compared("", _data(their.yaml), _data(our.yaml)))
    if their.json:
        found += [f"json {line}" for line in _compared("", json.loads(their.json), json.loads(our.json))]
    if text and not found:
        found += _lines("yaml", their.yaml, our.yaml)
        found += _lines("json", their.json, our.json) if their.json else []
    return found


def _data(text: str) -> Any:
    return Source("", text.encode()).documents[0].data


def _lines(style: str, one: str, other: str) -> list[str]:
    pairs = zip(one.splitlines(), other.splitlines(), strict=False)
    return [f"{style} text: {a!r} ≠ {b!r}" for a, b in pairs if a != b][:3]


def _compared(path: str, one: Any, other: Any) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}, key=str):
            if key not in one or key not in other:
                where, value = ("ours", other) if key in other else ("theirs", one)
                yield f"{path}.{key}: only {where}: {value[key]!r}"
            else:
                yield from _compared(f"{path}.{key}", one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _compared(f"{path}[{index}]", a, b)
    elif one != other or type(one) is not type(other):
        yield f"{path}: theirs {one!r}, ours {other!r}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="+", type=Path)
    parser.add_argument("--docker-compose", default=shutil.which("docker-compose") or "docker-compose")
    parser.add_argument("--text", action="store_true", help="compare the printed text too")
    options = parser.parse_args()
    total = wrong = 0
    for folder in options.folder:
        for one in cases(folder) if folder.is_dir() else [case(folder)]:
            total += 1
            found = differences(one, options.docker_compose, text=options.text)
            if found:
                wrong += 1
                print(f"{one.file}:", *found, sep="\n    ")
    print(f"{total - wrong} of {total} equal")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
