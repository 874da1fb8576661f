"""Repositories as build contexts and sources of ADD: their addresses, and git as it is run for them. K.

Nothing of a repository is run, and its own configuration is not looked at: git gets protocols that only
transfer, no hooks, and no questions.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from posixpath import basename
from urllib.parse import parse_qsl, urlsplit

from composer.errors import ImageError
from composer.value import Value

Secret = Callable[[str], bytes | None]
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_GIT = re.compile(r"^(git://|git@|ssh://)|\.git(\?[^#]*)?(#.*)?$")


class Repository(Value):
    """`below` is a folder in it, `checksum` how its commit must begin; `keep`: with .git, None: not said."""

    url: str
    ref: str = ""
    below: str = ""
    checksum: str = ""
    keep: bool | None = None
    submodules: bool = True

    @property
    def name(self) -> str:
        return basename(self.url).removesuffix(".git")


def is_git(text: str) -> bool:
    return bool(_GIT.search(text)) and "://" in text.replace("git@", "://", 1)


def repository(text: str) -> Repository:
    """`URL#ref:folder`, or `URL?branch=…&subdir=…`. Raises ImageError."""
    address, _, rest = text.partition("#")
    url, _, query = address.partition("?")
    ref, _, below = rest.partition(":")
    found = Repository(url, ref, below)
    for key, value in parse_qsl(query, keep_blank_values=True):
        field = _QUERY.get(key)
        if field is None:
            raise ImageError(f"{text}: {key} is not known", hint=f"there are {', '.join(_QUERY)}")
        name, read = field
        if name in ("ref", "below") and getattr(found, name) not in ("", read(value)):
            raise ImageError(f"{text} says twice which {key} is meant")
        found = found.replace(**{name: read(value)})
    return found


def _flag(text: str) -> bool:
    if text.lower() not in ("", "1", "true", "0", "false"):
        raise ImageError(f"{text} is neither true nor false in the address of a repository")
    return text.lower() in ("", "1", "true")


_QUERY: Mapping[str, tuple[str, Callable[[str], str | bool]]] = {
    "ref": ("ref", str),
    "branch": ("ref", lambda text: f"refs/heads/{text.removeprefix('refs/heads/')}"),
    "tag": ("ref", lambda text: f"refs/tags/{text.removeprefix('refs/tags/')}"),
    "subdir": ("below", str),
    "checksum": ("checksum", str),
    "commit": ("checksum", str),
    "keep-git-dir": ("keep", _flag),
    "submodules": ("submodules", _flag),
}


class Git:
    """git for one repository. `secret` gives GIT_AUTH_TOKEN and GIT_AUTH_HEADER, also `….host`."""

    def __init__(self, repository: Repository, secret: Secret) -> None:
        self.repository = repository
        self.environment = {
            **os.environ,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "git:http:https:ssh",
            "GIT_CONFIG_NOSYSTEM": "1",
            **_authorization(repository.url, secret),
        }

    def resolve(self) -> str:
        """The commit that the ref means. Raises ImageError."""
        url, wanted = self.repository.url, self.repository.ref or "HEAD"
        lines = self._run("ls-remote", "--", url, wanted, f"{wanted}^{{}}").splitlines()
        found = {name: commit for commit, _, name in (line.partition("\t") for line in lines) if name}
        names = (f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted)
        for name in (f"{names[0]}^{{}}", names[1], names[0], f"{wanted}^{{}}", wanted):
            if name in found:
                return found[name]
        raise ImageError(f"{url} has no branch or tag {wanted}")

    def check_out(self, commit: str, place: Path) -> None:
        """Files as the commit has them, 644 or 755, with the repositories in it. Raises ImageError."""
        url, at = self.repository.url, ("-C", str(place))
        self._run("init", "-q", str(place))
        self._run(*at, "config", "remote.origin.url", url)
        self._run(*at, "fetch", "-q", "--depth=1", "--", url, self.repository.ref or commit)
        self._run(*at, "-c", "advice.detachedHead=false", "checkout", "-q", "FETCH_HEAD")
        head = self._run(*at, "rev-parse", "HEAD").strip()
        if head != commit:
            raise ImageError(f"{url} changed while it was fetched", hint="try again")
        if self.repository.submodules and (place / ".gitmodules").is_file():
            self._run(*at, "submodule", "-q", "update", "--init", "--recursive", "--depth=1")

    def _run(self, *arguments: str) -> str:
        git = shutil.which("git")
        if git is None:
            raise ImageError("git is not installed, and a build takes a repository")
        done = subprocess.run(
            [git, "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=true", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            umask=0o022,
        )
        if done.returncode:
            raise ImageError(f"git: {done.stderr.strip() or f'exit code {done.returncode}'}")
        return done.stdout


def _authorization(url: str, secret: Secret) -> dict[str, str]:
    """What makes git send a secret to the host of the URL, and to no other; never among its arguments."""
    where = urlsplit(url)
    if where.scheme not in ("http", "https"):
        return {}
    header = secret(f"GIT_AUTH_HEADER.{where.hostname}") or secret("GIT_AUTH_HEADER")
    token = secret(f"GIT_AUTH_TOKEN.{where.hostname}") or secret("GIT_AUTH_TOKEN")
    if header is None and token is not None:
        header = b"basic " + b64encode(b"x-access-token:" + token.strip())
    if header is None:
        return {}
    value = f"Authorization: {header.decode(errors='replace').strip()}"
    key = f"http.{where.scheme}://{where.netloc}/.extraHeader"
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": value}
