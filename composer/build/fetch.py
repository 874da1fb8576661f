"""What a build takes from elsewhere: files by HTTP, repositories by git, contexts in archives. K.

Everything fetched is kept under what identifies it (a digest, a commit) and verified against it. Nothing of
it is run, and a repository's own configuration is not looked at: git gets protocols that only transfer.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from posixpath import basename
from typing import Any
from urllib.parse import unquote, urlsplit

from composer.build.cache import Cache
from composer.errors import ImageError
from composer.offline import refuse

LARGEST = 8 * 1024**3
"""Bytes of one download."""
_CHUNK = 1 << 20
_PATIENCE = 60  # seconds without a byte
_GIT = re.compile(r"^(git://|git@|ssh://)|\.git(#.*)?$")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class Fetched:
    """A file or a folder that is here now."""

    def __init__(self, path: Path, name: str, identity: str) -> None:
        self.path, self.name, self.identity = path, name, identity


class Fetcher:
    """Of one build: asks for the same thing only once."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.known: dict[str, Fetched] = {}

    def identity(self, url: str, checksum: str = "") -> str:
        """What tells the content behind `url` from any other. Raises ImageError."""
        return self.get(url, checksum).identity

    def get(self, url: str, checksum: str = "") -> Fetched:
        """The content behind `url`. Raises ImageError, also when it has not the `checksum` sha256:…"""
        if checksum and not re.fullmatch("sha256:[0-9a-f]{64}", checksum) and not _COMMIT.fullmatch(checksum):
            raise ImageError(f"--checksum={checksum} is no checksum", hint="as in sha256: and 64 digits")
        if url not in self.known:
            self.known[url] = self._git(url) if is_git(url) else self._http(url, checksum)
        found = self.known[url]
        if checksum and found.identity != checksum:
            raise ImageError(f"{url} has the checksum {found.identity}, not {checksum}")
        return found

    def folder(self, context: str) -> str:
        """A build context as a folder of this host. Raises ImageError."""
        if is_git(context):
            return str(self._git(context).path)
        if context.startswith(("http://", "https://")):
            return str(self._archive(self._http(context, "")))
        if not os.path.isdir(context):
            what = "is not a folder" if os.path.exists(context) else "does not exist"
            raise ImageError(f"the build context {context} {what}", hint="`build.context` names it")
        return os.path.abspath(context)

    # HTTP

    def _http(self, url: str, checksum: str) -> Fetched:
        note = self.cache.note("http", url) or {}
        name = unquote(basename(urlsplit(url).path)) or "download"
        path = self._place(note["digest"]) if note else None
        if path is not None and path.is_file() and checksum and checksum == note["digest"]:
            return Fetched(path, name, checksum)
        refuse(f"{url} is not fetched")
        from urllib.error import HTTPError, URLError
        from urllib.request import Request, urlopen

        headers = {"User-Agent": "composer", "Accept-Encoding": "identity"}
        if path is not None and path.is_file():
            asked = {"If-None-Match": note["etag"], "If-Modified-Since": note["modified"]}
            headers |= {key: value for key, value in asked.items() if value}
        try:
            with urlopen(Request(url, headers=headers), timeout=_PATIENCE) as answer:
                return self._save(url, name, answer)
        except HTTPError as error:
            if error.code == 304 and path is not None:
                return Fetched(path, name, note["digest"])
            raise ImageError(f"cannot fetch {url}: {error.code} {error.reason}") from error
        except (URLError, OSError) as error:
            raise ImageError(f"cannot fetch {url}: {getattr(error, 'reason', error)}") from error

    def _save(self, url: str, name: str, answer: Any) -> Fetched:
        self.cache.make()
        digest, size = hashlib.sha256(), 0
        unfinished = self._place(os.urandom(8).hex())
        unfinished.parent.mkdir(exist_ok=True)
        try:
            with open(unfinished, "xb") as file:
                while data := answer.read(_CHUNK):
                    digest.update(data)
                    file.write(data)
                    size += len(data)
                    if size > LARGEST:
                        raise ImageError(f"{url} is larger than {LARGEST >> 30} GiB")
            identity = f"sha256:{digest.hexdigest()}"
            path = self._place(identity)
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
        modified = answer.headers.get("Last-Modified") or ""
        if modified:
            from email.utils import parsedate_to_datetime

            seconds = parsedate_to_datetime(modified).timestamp()
            os.utime(path, (seconds, seconds))
        note = {"digest": identity, "etag": answer.headers.get("ETag") or "", "modified": modified}
        self.cache.remember(note, "http", url)
        return Fetched(path, name, identity)

    def _place(self, identity: str) -> Path:
        path = self.cache.fetched(identity)
        if path.exists():
            self.cache.used(path)
        return path

    # Archives as contexts

    def _archive(self, fetched: Fetched) -> Path:
        from composer.images.layers import unpack

        target = self._place(f"unpacked {fetched.identity}")
        if not target.is_dir():
            unfinished = target.with_name(f"{target.name}.{os.getpid()}")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                with fetched.path.open("rb") as file:
                    unpack(file.read, unfinished)
                unfinished.rename(target)
            except ImageError as error:
                raise ImageError(f"the context {fetched.name} is no archive: {error.message}") from error
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        return target

    # git

    def _git(self, text: str) -> Fetched:
        url, _, rest = text.partition("#")
        ref, _, below = rest.partition(":")
        commit = ref if _COMMIT.fullmatch(ref) else self._resolve(url, ref)
        place = self._place(f"git {url} {commit}")
        if not place.is_dir():
            self._clone(url, ref, commit, place)
        folder = place / below.strip("/") if below else place
        if ".." in below.split("/") or not folder.is_dir() or folder.resolve() != folder:
            raise ImageError(f"{url} has no folder {below} at {ref or 'its HEAD'}")
        return Fetched(folder, basename(url).removesuffix(".git"), commit)

    def _resolve(self, url: str, ref: str) -> str:
        refuse(f"{url} is not asked")
        wanted = ref or "HEAD"
        lines = _run("ls-remote", "--", url, wanted, f"{wanted}^{{}}").splitlines()
        found = {name: commit for commit, _, name in (line.partition("\t") for line in lines) if name}
        for name in (f"refs/tags/{wanted}^{{}}", f"refs/heads/{wanted}", f"refs/tags/{wanted}", wanted):
            if name in found:
                return found[name]
        raise ImageError(f"{url} has no branch or tag {wanted}")

    def _clone(self, url: str, ref: str, commit: str, place: Path) -> None:
        refuse(f"{url} is not fetched")
        self.cache.make()
        unfinished = place.with_name(f"{place.name}.{os.getpid()}")
        unfinished.parent.mkdir(exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            _run("init", "-q", str(unfinished))
            where = ("-C", str(unfinished))
            _run(*where, "fetch", "-q", "--depth=1", "--", url, ref or commit)
            _run(*where, "-c", "advice.detachedHead=false", "checkout", "-q", "FETCH_HEAD")
            head = _run(*where, "rev-parse", "HEAD").strip()
            if head != commit:
                raise ImageError(f"{url} changed while it was fetched", hint="try again")
            unfinished.rename(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def is_git(text: str) -> bool:
    return bool(_GIT.search(text)) and "://" in text.replace("git@", "://", 1)


def _run(*arguments: str) -> str:
    """git, without questions, without the user's hooks, and with protocols that only transfer."""
    git = shutil.which("git")
    if git is None:
        raise ImageError("git is not installed, and a build takes a repository")
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "git:http:https:ssh",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    done = subprocess.run(
        [git, "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=true", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ImageError(f"git: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
