"""The registry protocol where real registries are too well-behaved:

tokens, redirects, refusals, broken lines.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from composer.errors import ImageError, RegistryError
from composer.images import registries, registry
from composer.images.auth import Credentials, Keyring
from composer.images.image import Image
from composer.images.store import Store
from composer.paths import Paths
from tests.images.test_registry import PULL
from tests.serving import Answer, Serving

pytestmark = pytest.mark.kernel


class Fake(Serving):
    """Serves one image of `store` the way `special` says; None means the plain way."""

    def __init__(self, store: Store, image: Image) -> None:
        entry = store.entry(image.id)
        assert entry is not None
        self.manifest = store.layout.read(entry["digest"])
        self.kind = entry["mediaType"]
        self.layout = store.layout
        self.special: Callable[[str, str, dict[str, str]], Answer | None] = lambda *_: None
        self.cut: list[int] = []  # after so many bytes, once each, the connection breaks
        super().__init__(self.serve)
        self.name = f"{self.host}/team/app:1"

    def serve(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        status, extra, data = self.special(method, path, headers) or self.plain(path, headers)
        if "/blobs/" in path and len(data) > 100_000 and self.cut:
            return status, {"Content-Length": str(len(data)), **extra}, data[: self.cut.pop(0)]
        return status, extra, data

    def plain(self, path: str, headers: dict[str, str]) -> Answer:
        if path == "/v2/":
            return 200, {}, b"{}"
        if "/manifests/" in path:
            return 200, {"Content-Type": self.kind}, self.manifest
        data = self.layout.path(path.rpartition("/")[2]).read_bytes()
        if "range" in headers:
            start = int(headers["range"].removeprefix("bytes=").rstrip("-"))
            return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]
        return 200, {}, data


@pytest.fixture
def fake(store: Store, busybox: Image, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setattr(registry, "uniform", lambda *_: 0)  # back-off without waiting
    with Fake(store, busybox) as fake:
        yield fake


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(Paths(tmp_path / "other/run", tmp_path / "other/state"))


def pull(store: Store, name: str) -> Image:
    return anyio.run(store.pull, name)


def login(host: str, home: Path, **entry: str) -> None:
    pair = base64.b64encode(b"anna:geheim").decode()
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps({"auths": {host: {"auth": pair, **entry}}}))


def bearer(fake: Fake) -> Callable[[str, str, dict[str, str]], Answer | None]:
    """A token server and a registry that wants its tokens."""

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        url = urlsplit(path)
        if url.path == "/token":
            asked = parse_qs(url.query or headers["body"])
            token = f"token for {asked['scope'][0]} to {asked['service'][0]}"
            return 200, {}, json.dumps({"token": token}).encode()
        if path == "/v2/":
            return None
        if headers.get("authorization") == "Bearer token for repository:team/app:pull to fake":
            return None
        challenge = f'Bearer realm="http://{fake.host}/token",service="fake",scope="repository:other:pull"'
        return 401, {"WWW-Authenticate": challenge}, b"{}"

    return answer


def test_token(fake: Fake, other: Store, busybox: Image) -> None:
    fake.special = bearer(fake)
    assert pull(other, fake.name).id == busybox.id
    tokens = [headers for _, path, headers in fake.requests if path.startswith("/token")]
    assert tokens
    assert all("authorization" not in headers for headers in tokens)


def test_token_for_a_user(fake: Fake, other: Store, home: Path) -> None:
    fake.special = bearer(fake)
    login(fake.host, home)
    pull(other, fake.name)
    tokens = [headers for _, path, headers in fake.requests if path.startswith("/token")]
    assert all(headers["authorization"].startswith("Basic ") for headers in tokens)
    assert not any(
        h.get("authorization", "").startswith("Basic") for _, path, h in fake.requests if "/v2/" in path
    )


def test_token_by_an_identity_token(fake: Fake, other: Store, home: Path) -> None:
    fake.special = bearer(fake)
    login(fake.host, home, identitytoken="refresh me")
    pull(other, fake.name)
    method, _, headers = next(request for request in fake.requests if request[1].startswith("/token"))
    asked = parse_qs(headers["body"])
    assert (method, asked["grant_type"], asked["refresh_token"]) == (
        "POST",
        ["refresh_token"],
        ["refresh me"],
    )


def test_credentials_are_not_sent_in_the_open_to_others(fake: Fake, other: Store, home: Path) -> None:
    login(fake.host, home)
    challenge = 'Bearer realm="http://elsewhere.example/token",service="fake"'
    fake.special = lambda method, path, headers: (
        None if path == "/v2/" else (401, {"WWW-Authenticate": challenge}, b"")
    )
    with pytest.raises(RegistryError, match="unencrypted"):
        pull(other, fake.name)


def test_a_redirect_elsewhere_takes_no_credentials_along(
    fake: Fake, other: Store, home: Path, store: Store, busybox: Image
) -> None:
    with Fake(store, busybox) as elsewhere:
        login(fake.host, home)

        def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
            if path != "/v2/" and "authorization" not in headers:
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            if "/blobs/" in path:
                return 307, {"Location": f"http://localhost:{elsewhere.port}{path}"}, b""
            return None

        fake.special = answer
        assert pull(other, fake.name).id == busybox.id
        assert elsewhere.requests
        assert all("authorization" not in headers for _, _, headers in elsewhere.requests)


def test_a_line_that_breaks_again_and_again(fake: Fake, other: Store, busybox: Image) -> None:
    fake.cut = [100_000, 90_000, 120_000, 0, 50_000]
    assert pull(other, fake.name).id == busybox.id
    starts = [h["range"] for _, path, h in fake.requests if "/blobs/" in path and "range" in h]
    assert starts == ["bytes=100000-", "bytes=190000-", "bytes=310000-", "bytes=310000-", "bytes=360000-"]


def test_an_unchanged_tag_costs_one_question(fake: Fake, other: Store, busybox: Image) -> None:
    told = f"sha256:{hashlib.sha256(fake.manifest).hexdigest()}"
    pull(other, fake.name)
    del fake.requests[:]

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        return (200, {"Docker-Content-Digest": told}, b"") if method == "HEAD" else None

    fake.special = answer
    assert pull(other, fake.name).id == busybox.id
    assert [method for method, path, _ in fake.requests if "/manifests/" in path] == ["HEAD"]
    assert anyio.run(other.digest, fake.name) == told


def test_a_server_without_ranges(fake: Fake, other: Store, busybox: Image) -> None:
    fake.cut = [100_000]

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        headers.pop("range", None)
        return None

    fake.special = answer
    assert pull(other, fake.name).id == busybox.id


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_what_passes_is_tried_again(fake: Fake, other: Store, busybox: Image, status: int) -> None:
    times = 2

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        nonlocal times
        if "/manifests/" in path and times:
            times -= 1
            return status, {}, b""
        return None

    fake.special = answer
    assert pull(other, fake.name).id == busybox.id


@pytest.mark.parametrize(
    ("status", "headers", "message", "hint"),
    [
        (403, {}, "forbids access", None),
        (404, {}, "no such image", "check the name"),
        (429, {"Retry-After": "3600"}, "fewer requests", "3600 s"),
        (418, {}, "answered 418", None),
    ],
)
def test_refusals_in_words(
    fake: Fake, other: Store, status: int, headers: dict[str, str], message: str, hint: str | None
) -> None:
    body = b'{"errors":[{"code":"X","message":"said the registry"}]}'
    fake.special = lambda method, path, _: None if path == "/v2/" else (status, headers, body)
    with pytest.raises(RegistryError, match=message) as refused:
        pull(other, fake.name)
    assert refused.value.status == status
    assert "said the registry" in refused.value.message
    assert hint is None or hint in str(refused.value.hint)
    if status == 429:
        assert refused.value.retry_after == 3600


@pytest.mark.parametrize("what", ["endless manifest", "html", "another manifest", "endless blob"])
def test_registries_that_lie(fake: Fake, other: Store, what: str) -> None:
    pinned = f"{fake.host}/team/app@sha256:{hashlib.sha256(fake.manifest).hexdigest()}"

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        if "/manifests/" in path:
            lies = {"endless manifest": b" " * (9 << 20), "html": b"<html>", "another manifest": b"{}"}
            return (200, {"Content-Type": fake.kind}, lies[what]) if what in lies else None
        if "/blobs/" in path and what == "endless blob":
            return 200, {}, bytes(4 << 20)
        return None

    fake.special = answer
    with pytest.raises(ImageError):
        pull(other, pinned if what == "another manifest" else fake.name)
    assert other.summaries() == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_layer_that_comes_later_is_waited_for(
    fake: Fake, other: Store, busybox: Image, status: int
) -> None:
    times = 2

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        nonlocal times
        if "/blobs/" in path and times:
            times -= 1
            return status, {"Retry-After": "0"}, b""
        return None

    fake.special = answer
    assert pull(other, fake.name).id == busybox.id


def test_a_token_that_expires_meanwhile_is_asked_for_again(fake: Fake, other: Store, busybox: Image) -> None:
    known = bearer(fake)
    expired: list[str] = []

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        if "/blobs/" in path and not expired:
            expired.append(path)
            challenge = f'Bearer realm="http://{fake.host}/token",service="fake"'
            return 401, {"WWW-Authenticate": challenge}, b""
        return known(method, path, headers)

    fake.special = answer
    fake.cut = [100_000]
    assert pull(other, fake.name).id == busybox.id
    assert len([path for _, path, _ in fake.requests if path.startswith("/token")]) >= 2


def test_a_token_server_that_is_busy_is_asked_again(fake: Fake, other: Store, busybox: Image) -> None:
    known = bearer(fake)
    busy = [503, 429]

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        if path.startswith("/token") and busy:
            return busy.pop(), {}, b""
        return known(method, path, headers)

    fake.special = answer
    assert pull(other, fake.name).id == busybox.id


NESTED = b'{"token": ' + b"[" * 100_000
ODD = {
    "a realm that is no address": ("/v2/", (401, {"WWW-Authenticate": 'Bearer realm="http://["'}, b"")),
    "a realm at no port": ("/v2/", (401, {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:x"'}, b"")),
    "a scheme nobody knows": ("/v2/", (401, {"WWW-Authenticate": "Negotiate"}, b"")),
    "a token that cannot be sent": ("/token", (200, {}, b'{"token": "\xe2\x82\xac\\n"}')),
    "a token without end": ("/token", (200, {}, NESTED)),
    "a list of tokens": ("/token", (200, {}, b"[1]")),
    "a redirect to no address": ("/manifests/", (307, {"Location": "http://["}, b"")),
    "a redirect to a file": ("/manifests/", (307, {"Location": "file:///etc/passwd"}, b"")),
    "a redirect in a circle": ("/manifests/", (307, {"Location": "/v2/team/app/manifests/1"}, b"")),
    "a time that is none": ("/manifests/", (503, {"Retry-After": "\xb2"}, b"")),
    "a time that never comes": ("/manifests/", (429, {"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, b"")),
    "a part without a place": ("/blobs/", (206, {}, b"x")),
    "another part": ("/blobs/", (206, {"Content-Range": "bytes 7-8/9"}, b"x")),
    "a length that is none": ("/manifests/", (200, {"Content-Length": "-5"}, b"")),
    "a manifest of nothing": ("/manifests/", (200, {}, b"")),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_answers_are_failures_in_words(fake: Fake, other: Store, what: str) -> None:
    where, odd = ODD[what]
    known = bearer(fake) if where == "/token" else lambda *_: None

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        # HEAD and GET, but for the question whether it is there at all
        return odd if where in path and (where == "/v2/" or path != "/v2/") else known(method, path, headers)

    fake.special = answer
    with pytest.raises(ImageError) as refused:
        pull(other, fake.name)
    assert refused.value.message and other.summaries() == []


@pytest.mark.parametrize("place", ["http://127.0.0.1:99x/", ""])
def test_an_upload_to_nowhere(fake: Fake, store: Store, busybox: Image, place: str) -> None:
    store.tag("example/busybox:1", fake.name)
    fake.special = lambda method, path, _: (
        (202, {"Location": place} if place else {}, b"")
        if method == "POST"
        else (404, {}, b"")
        if "/blobs/" in path
        else None
    )
    with pytest.raises(RegistryError, match="upload"):
        anyio.run(store.push, fake.name)


def test_processes_share_a_download(fake: Fake, tmp_path: Path, busybox: Image) -> None:
    folder = tmp_path / "shared"
    pulls = [subprocess.Popen([sys.executable, "-c", PULL, str(folder), fake.name]) for _ in range(3)]
    assert [process.wait() for process in pulls] == [0, 0, 0]
    blobs = [path for _, path, _ in fake.requests if "/blobs/" in path]
    assert len(blobs) == len(set(blobs)) == 2
    assert Store(Paths(folder / "run", folder / "state")).check() == []


def test_a_layer_that_is_none_is_told_as_such(fake: Fake, other: Store) -> None:
    """Its content or its digest, whichever is seen first."""

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        size = len(fake.plain(path, headers)[2])
        return (200, {}, b"x" * size) if "/blobs/" in path and size > 100_000 else None

    fake.special = answer
    with pytest.raises(ImageError, match=r"archive is damaged|not a tar archive|has the digest"):
        pull(other, fake.name)
    assert list((other.layout.root / "unfinished").iterdir()) == []


def test_a_mirror_that_fails_is_passed_over(
    fake: Fake, other: Store, busybox: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f"""
        [[registry]]
        location = "{fake.host}"
        [[registry.mirror]]
        location = "127.0.0.1:1"
        """
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    assert pull(other, fake.name).id == busybox.id
    assert anyio.run(other.digest, fake.name) == f"sha256:{hashlib.sha256(fake.manifest).hexdigest()}"


def test_a_cancelled_pull_ends_and_keeps_what_came(fake: Fake, other: Store, busybox: Image) -> None:
    waiting, go = threading.Event(), threading.Event()

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        if "/blobs/" in path:
            waiting.set()
            go.wait(10)
        return None

    fake.special = answer

    async def run() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(other.pull, fake.name)
            await anyio.to_thread.run_sync(waiting.wait)
            group.cancel_scope.cancel()
        go.set()

    anyio.run(run)
    assert other.summaries() == []
    assert pull(other, fake.name).id == busybox.id


HELPER = """#!/bin/sh
echo "$1 $(cat)" >>{log}
case $1 in get) {answer} ;; esac
"""


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Path:
    program = tmp_path / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER.format(log=tmp_path / "log", answer=answer))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return tmp_path / "log"


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_credential_helpers(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    log = helper(tmp_path, monkeypatch, """echo '{"Username":"anna","Secret":"geheim"}'""")
    (home / ".docker").mkdir()
    value: object = "test" if key == "credsStore" else {"reg.example": "test"}
    (home / ".docker/config.json").write_text(json.dumps({key: value}))
    ring = Keyring({"HOME": str(home)})
    assert ring.get("reg.example") == Credentials("anna", "geheim")
    assert ring.put("reg.example", Credentials("anna", "neu")) == "docker-credential-test"
    assert ring.remove("reg.example")
    lines = log.read_text().splitlines()
    assert lines[0] == "get reg.example"
    assert json.loads(lines[1].removeprefix("store ")) == {
        "ServerURL": "reg.example",
        "Username": "anna",
        "Secret": "neu",
    }
    assert lines[-1] == "erase reg.example"
    assert "geheim" not in repr(ring.get("reg.example"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [("echo broken >&2; exit 3", "failed: broken"), ("echo no json", "no credentials")],
)
def test_helpers_that_fail(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, message: str
) -> None:
    helper(tmp_path, monkeypatch, answer)
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text('{"credsStore":"test"}')
    with pytest.raises(ImageError, match=message):
        Keyring({"HOME": str(home)}).get("reg.example")


def test_a_helper_that_knows_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text('{"credsStore":"test"}')
    assert Keyring({"HOME": str(home)}).get("reg.example") is None


def test_the_keyring_file(home: Path) -> None:
    ring = Keyring({"HOME": str(home)})
    assert ring.get("docker.io") is None
    assert not ring.remove("docker.io")
    ring.put("docker.io", Credentials("anna", "ge:heim"))
    assert "https://index.docker.io/v1/" in ring.path.read_text()
    assert ring.get("docker.io") == Credentials("anna", "ge:heim")
    assert ring.remove("docker.io")
    assert ring.get("docker.io") is None
    for text in ("[", "[]", '{"auths":[]}', '{"auths":{"x.example":{"auth":"!!"}}}'):
        ring.path.write_text(text)
        with pytest.raises(ImageError):
            ring.get("x.example")


@pytest.mark.parametrize(
    ("conf", "name", "expected"),
    [
        ("", "busybox", [("registry-1.docker.io", "library/busybox", False)]),
        ("", "localhost:5000/a", [("localhost:5000", "a", True)]),
        ("", "10.0.0.1/a", [("10.0.0.1", "a", False)]),
        ('[[registry]]\nlocation="r.example"\ninsecure=true', "r.example/a", [("r.example", "a", True)]),
        (
            '[[registry]]\nprefix="r.example/a"\nlocation="s.example/b"',
            "r.example/a/c",
            [("s.example", "b/c", False)],
        ),
        (
            '[[registry]]\nprefix="r.example/a"\nlocation="s.example/b"',
            "r.example/ab",
            [("r.example", "ab", False)],
        ),
        ('[[registry]]\nprefix="*.example"\nlocation="s.org"', "r.example/a", [("s.org", "a", False)]),
        ('[[registry]]\nprefix="*.example"\ninsecure=true', "r.example/a", [("r.example", "a", True)]),
        (
            '[[registry]]\nlocation="docker.io"\n[[registry.mirror]]\nlocation="m.example/hub"\ninsecure=true',
            "busybox",
            [("m.example", "hub/library/busybox", True), ("registry-1.docker.io", "library/busybox", False)],
        ),
    ],
)
def test_endpoints(tmp_path: Path, conf: str, name: str, expected: list[tuple[str, str, bool]]) -> None:
    from composer.images.reference import parse

    (tmp_path / "conf").write_text(conf)
    settings = registries.read({"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "conf")})
    found = [(e.host, e.repository, e.insecure) for e in settings.endpoints(parse(name))]
    assert found == expected


@pytest.mark.parametrize("conf", ["[[", "[[registry]]\n", 'registry="x"', "registry=[5]"])
def test_settings_that_cannot_be_understood(tmp_path: Path, conf: str) -> None:
    (tmp_path / "conf").write_text(conf)
    with pytest.raises(ImageError, match="cannot be understood"):
        registries.read({"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "conf")})
