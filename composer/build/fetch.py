"""What a build takes from elsewhere: files by HTTP, repositories by git, contexts in archives. K.

Everything fetched is kept under what identifies it (a digest, a commit) and verified against it. Nothing of
it is run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from posixpath import basename
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from composer.build.cache import Cache
from composer.build.git import COMMIT, Git, Secret, is_git, repository
from composer.errors import ImageError
from composer.offline import refuse

LARGEST = 8 * 1024**3
"""Bytes of one download."""
_CHUNK = 1 << 20
_PATIENCE = 60  # seconds without a byte


class Fetched:
    """A file or a folder that is here now."""

    def __init__(self, path: Path, name: str, identity: str) -> None:
        self.path, self.name, self.identity = path, name, identity


class Fetcher:
    """Of one build: asks for the same thing only once. `secret` gives what the build was given by that id."""

    def __init__(self, cache: Cache, secret: Secret = lambda _: None) -> None:
        self.cache, self.secret = cache, secret
        self.known: dict[tuple[str, bool], Fetched] = {}

    def get(self, url: str, checksum: str = "", *, keep_git: bool = False) -> Fetched:
        """The content behind `url`. Raises ImageError, also when it has not the `checksum`: sha256:… of a
        file, or how the commit of a repository begins."""
        if is_git(url):
            if checksum and not re.fullmatch("[0-9a-f]{1,64}", checksum):
                raise ImageError(f"--checksum={checksum} is no commit", hint="its first digits are enough")
            if checksum or (url, keep_git) not in self.known:
                self.known[url, keep_git] = self._git(url, checksum, keep=keep_git)
            return self.known[url, keep_git]
        if checksum and not re.fullmatch("sha256:[0-9a-f]{64}", checksum):
            raise ImageError(f"--checksum={checksum} is no checksum", hint="as in sha256: and 64 digits")
        if (url, False) not in self.known:
            self.known[url, False] = self._http(url, checksum)
        found = self.known[url, False]
        if checksum and found.identity != checksum:
            raise ImageError(f"{url} has the checksum {found.identity}, not {checksum}")
        return found

    def folder(self, context: str, *, keep_git: bool = False) -> str:
        """A build context as a folder of this host. Raises ImageError."""
        if is_git(context):
            return str(self._git(context, keep=keep_git).path)
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
        request = Request(url, headers=headers)
        if authorization := self._authorization(urlsplit(url)):
            request.add_unredirected_header("Authorization", authorization)  # for this host alone
        try:
            with urlopen(request, timeout=_PATIENCE) as answer:
                return self._save(url, name, answer)
        except HTTPError as error:
            if error.code == 304 and path is not None:
                return Fetched(path, name, note["digest"])
            raise ImageError(f"cannot fetch {url}: {error.code} {error.reason}") from error
        except (URLError, OSError) as error:
            raise ImageError(f"cannot fetch {url}: {getattr(error, 'reason', error)}") from error

    def _authorization(self, where: SplitResult) -> str:
        """HTTP_AUTH_HEADER_<host> as it is, or HTTP_AUTH_TOKEN_<host>, of the build's secrets."""
        for host in (where.netloc, where.hostname or ""):
            if header := self.secret(f"HTTP_AUTH_HEADER_{host}"):
                return header.decode("latin-1").strip()
            if token := self.secret(f"HTTP_AUTH_TOKEN_{host}"):
                return f"Bearer {token.decode('latin-1').strip()}"
        return ""

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

    def _git(self, text: str, checksum: str = "", *, keep: bool = False) -> Fetched:
        """`keep`: the .git directory stays, unless the address says otherwise."""
        wanted = repository(text)
        git = Git(wanted, self.secret)
        commit = wanted.ref if COMMIT.fullmatch(wanted.ref) else self._resolved(git)
        for begins in filter(None, (checksum, wanted.checksum)):
            if not commit.startswith(begins):
                raise ImageError(f"{text} is at the commit {commit}, not {begins}")
        whole = keep if wanted.keep is None else wanted.keep
        what = f"git {wanted.url} {commit} {whole} {wanted.submodules}"
        place = self._place(what)
        if not place.is_dir():
            self._check_out(git, commit, place, whole=whole)
        folder = place / wanted.below.strip("/") if wanted.below else place
        if ".." in wanted.below.split("/") or not folder.is_dir() or folder.resolve() != folder:
            raise ImageError(f"{wanted.url} has no folder {wanted.below} at {wanted.ref or 'its HEAD'}")
        return Fetched(folder, wanted.name, f"{commit} {whole} {wanted.submodules} {wanted.below}")

    def _resolved(self, git: Git) -> str:
        refuse(f"{git.repository.url} is not asked")
        return git.resolve()

    def _check_out(self, git: Git, commit: str, place: Path, *, whole: bool) -> None:
        refuse(f"{git.repository.url} is not fetched")
        self.cache.make()
        unfinished = place.with_name(f"{place.name}.{os.getpid()}")
        unfinished.parent.mkdir(exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            git.check_out(commit, unfinished)
            if not whole:
                for inner in unfinished.rglob(".git"):
                    shutil.rmtree(inner) if inner.is_dir() else inner.unlink()
            unfinished.rename(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
