"""One registry over HTTP: OCI distribution-spec 1.1 and Docker's token authentication.

Synchronous, one call per request, to be used from several threads: who streams layers unpacks them at the
same time, which is thread's work anyway. Every failure is a RegistryError in words; what may pass by itself
is tried again.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import uniform
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2

from composer.errors import RegistryError
from composer.images.auth import Credentials
from composer.images.config import INDEXES, MANIFESTS, MAX_DOCUMENT
from composer.images.layout import digest_of, short
from composer.images.reference import is_digest
from composer.images.registries import Endpoint, Registries, certificates

if TYPE_CHECKING:
    from composer.images.documents import Descriptor

CONNECT_TIMEOUT, READ_TIMEOUT = 15.0, 20.0  # seconds; also how long a stalled server can hold up Ctrl-C
TRIES = 5
LONGEST_WAIT = 15.0  # seconds; a registry that wants more patience is reported instead
PIECE = 256 * 1024
UPLOAD_CHUNK = 32 * 1024 * 1024
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
PASSING = (500, 502, 503, 504)


class Registry:
    """A server, a repository on it, and what it knows us by."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Registries,
        credentials: Credentials | None,
        stop: threading.Event | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._credentials = credentials
        self._stop = stop or threading.Event()
        self._client = _client(endpoint, settings)
        self._base = f"https://{endpoint.host}"
        self._scheme_known = threading.Lock()
        self._authorization: dict[str, str] = {}
        self._settled = not endpoint.insecure

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # What it has

    def manifest(self, wanted: str) -> tuple[bytes, str]:
        """The bytes of a manifest by tag or digest, and the media type it comes with."""
        with self._ask("GET", f"/manifests/{wanted}", headers={"Accept": ACCEPT}) as response:
            data = bytearray()
            for piece in response.iter_raw():
                data += piece
                if len(data) > MAX_DOCUMENT:
                    raise RegistryError(f"{self.endpoint.host} sends a manifest without end")
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return bytes(data), kind

    def digest(self, wanted: str) -> str | None:
        """The digest of a manifest by tag, if the server tells it without sending the manifest.

        Such a question does not count where a registry limits pulls.
        """
        with self._ask("HEAD", f"/manifests/{wanted}", headers={"Accept": ACCEPT}) as response:
            told = response.headers.get("Docker-Content-Digest", "")
        return told if is_digest(told) else None

    @contextmanager
    def blob(self, digest: str, offset: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """A blob's bytes, and from where: `offset`, or 0 when the server knows no ranges."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._ask("GET", f"/blobs/{digest}", headers=headers, tries=1) as response:
            start = self._start(response) if response.status_code == 206 else 0
            if start not in (offset, 0):
                raise RegistryError(f"{self.endpoint.host} sends another part of a blob than was asked for")
            yield start, response.iter_raw()  # as it comes: what a larger piece had gathered would be lost

    def _start(self, response: httpx2.Response) -> int:
        """Where a part begins, of which there may be no word (RFC 9110, 14.4)."""
        told = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""), re.ASCII)
        if told is None:
            raise RegistryError(f"{self.endpoint.host} does not say which part of a blob it sends")
        return int(told[1])

    def has(self, digest: str) -> bool:
        try:
            with self._ask("HEAD", f"/blobs/{digest}", actions="pull,push"):
                return True
        except RegistryError as error:
            if error.status == 404:
                return False
            raise

    def ping(self) -> None:
        """Ask whether we are welcome. Raises RegistryError."""
        with self._request("GET", f"{self._base_url()}/v2/", {}, "", 1):
            pass

    # What it is given

    def upload(
        self,
        blob: Descriptor,
        read_at: Callable[[int, int], bytes],
        mount_from: str | None,
        progress: Callable[[int], None],
    ) -> None:
        """Send a blob in chunks; a broken chunk is sent again from where the server says it stopped.

        `read_at(offset, count)` gives its bytes. With `mount_from` the server may take it from that
        repository.
        """
        digest, size = blob["digest"], blob["size"]
        query = {"mount": digest, "from": mount_from} if mount_from else {}
        scope = f"repository:{mount_from}:pull" if mount_from else ""
        with self._ask("POST", "/blobs/uploads/", actions="pull,push", params=query, scope=scope) as response:
            if response.status_code == 201:
                progress(size)
                return
            place = self._location(response)
        offset = failures = 0
        while offset < size:
            chunk = read_at(offset, UPLOAD_CHUNK)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{offset}-{offset + len(chunk) - 1}",
            }
            try:
                with self._ask(
                    "PATCH", place, actions="pull,push", headers=headers, content=chunk, tries=1
                ) as r:
                    place = self._location(r)
                offset += len(chunk)
                failures = 0
            except RegistryError as error:
                failures += 1
                if failures >= TRIES or error.status not in (None, 416, *PASSING):
                    raise
                self.pause(failures)
                place, offset = self._upload_state(place)
            progress(offset)
        with self._ask("PUT", place, actions="pull,push", params={"digest": digest}):
            pass

    def put_manifest(self, wanted: str, data: bytes, kind: str) -> str:
        """Store a manifest under a tag or its digest; its digest."""
        headers = {"Content-Type": kind}
        with self._ask("PUT", f"/manifests/{wanted}", actions="pull,push", headers=headers, content=data):
            return digest_of(data)

    def _upload_state(self, place: str) -> tuple[str, int]:
        with self._ask("GET", place, actions="pull,push") as response:
            _, _, last = response.headers.get("Range", "").partition("-")
            known = last != "0" and re.fullmatch(r"[0-9]{1,18}", last)
            return self._location(response), int(last) + 1 if known else 0

    def _location(self, response: httpx2.Response) -> str:
        location = response.headers.get("Location")
        if not location:
            raise RegistryError(f"{self.endpoint.host} does not say where to upload to")
        try:
            return str(response.url.join(location))
        except httpx2.InvalidURL as error:
            raise RegistryError(f"{self.endpoint.host} wants uploads at {location!r:.100}") from error

    # How it is asked

    @contextmanager
    def _ask(
        self,
        method: str,
        path: str,
        *,
        actions: str = "pull",
        scope: str = "",
        tries: int = TRIES,
        **more: Any,
    ) -> Iterator[httpx2.Response]:
        """One request, answered with success. `path` is below the repository, or a whole address."""
        url = path if "://" in path else f"{self._base_url()}/v2/{self.endpoint.repository}{path}"
        scopes = f"repository:{self.endpoint.repository}:{actions} {scope}".strip()
        with self._request(method, url, more, scopes, tries) as response:
            yield response

    @contextmanager
    def _request(
        self, method: str, url: str, more: dict[str, Any], scope: str, tries: int
    ) -> Iterator[httpx2.Response]:
        response = self._response(method, url, more, scope, tries)
        try:
            yield response
        except httpx2.TransportError as error:
            raise self._explained(error) from error
        finally:
            response.close()

    def _response(
        self, method: str, url: str, more: dict[str, Any], scope: str, tries: int
    ) -> httpx2.Response:
        asked_for_token = False
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._send(method, url, more, scope)
            except httpx2.TransportError as error:
                failure = self._explained(error)
                if attempt >= tries or isinstance(error, httpx2.ConnectError):  # nobody there stays so
                    raise failure from error
                self.pause(attempt)
                continue
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise RegistryError(f"{self.endpoint.host} cannot be asked: {error}") from error
            if response.status_code < 300:
                return response
            if response.status_code == 401 and not asked_for_token:
                asked_for_token = self._authorize(response, scope)
                if asked_for_token:
                    response.close()
                    attempt -= 1
                    continue
            failure = self._refusal(response, _limited(response))
            if attempt >= tries or not passes(failure):
                raise failure
            self.pause(attempt, failure.retry_after or 0)

    def _send(self, method: str, url: str, more: dict[str, Any], scope: str) -> httpx2.Response:
        headers = dict(more.get("headers") or {})
        if urlsplit(url).netloc == urlsplit(self._base).netloc and (known := self._authorization.get(scope)):
            headers["Authorization"] = known
        rest = {key: value for key, value in more.items() if key != "headers" and value}
        if "params" in rest:
            rest["params"] = httpx2.URL(url).params.merge(rest["params"])
        request = self._client.build_request(method, url, headers=headers, **rest)
        return self._client.send(request, stream=True)

    def _base_url(self) -> str:
        """HTTPS; where that is not insisted on, HTTP if the server does not speak it."""
        with self._scheme_known:
            if not self._settled:
                try:
                    self._client.get(f"{self._base}/v2/")
                except httpx2.TransportError:
                    self._base = f"http://{self.endpoint.host}"
                self._settled = True
        return self._base

    def pause(self, attempt: int, at_least: float = 0) -> None:
        """Wait longer after each attempt, and never in step with others. Ends early when stopped."""
        delay = max(at_least, min(0.25 * 2**attempt, 8) * uniform(0.5, 1))
        if self._stop.wait(delay):
            raise RegistryError("stopped")

    # Who we are

    def _authorize(self, response: httpx2.Response, scope: str) -> bool:
        """Get what a 401 asks for. False when there is nothing (more) to show."""
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        if kind.lower() == "basic":
            if self._credentials is None or "Authorization" in response.request.headers:
                return False
            pair = f"{self._credentials.username}:{self._credentials.password}".encode()
            self._authorization[scope] = f"Basic {base64.b64encode(pair).decode()}"
            return True
        if kind.lower() != "bearer":
            return False
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        self._authorization[scope] = f"Bearer {self._token(fields, scope)}"
        return True

    def _token(self, fields: dict[str, str], scope: str) -> str:
        """Ask the token server (distribution: spec/auth/token.md and oauth.md)."""
        try:
            realm = urlsplit(fields.get("realm", ""))
        except ValueError as error:
            raise RegistryError(f"{self.endpoint.host} has tokens at {fields['realm']!r:.100}") from error
        own = urlsplit(self._base)
        if realm.scheme != "https" and (realm.hostname, own.scheme) != (own.hostname, "http"):
            raise RegistryError(
                f"{self.endpoint.host} wants credentials sent unencrypted to {realm.netloc!r}"
            )
        query: dict[str, str | list[str]] = {"scope": scope.split()}
        if "service" in fields:
            query["service"] = fields["service"]
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = self._token_answer(realm.geturl(), query, scope)
                text = _limited(answer)
            except httpx2.TransportError as error:
                raise self._explained(error, realm.netloc) from error
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise RegistryError(f"{realm.netloc} cannot be asked for a token: {error}") from error
            if answer.status_code == 200:
                return _token_in(text, realm.netloc)
            failure = self._refusal(answer, text)
            if attempt >= TRIES or not passes(failure):
                raise failure
            self.pause(attempt, failure.retry_after or 0)

    def _token_answer(self, realm: str, query: dict[str, str | list[str]], scope: str) -> httpx2.Response:
        who = self._credentials
        if who and who.identity_token:
            form = {**query, "scope": scope, "grant_type": "refresh_token"}
            form |= {"client_id": "composer", "refresh_token": who.identity_token}
            request = self._client.build_request("POST", realm, data=form)
            return self._client.send(request, stream=True)
        request = self._client.build_request("GET", realm, params=query)
        return self._client.send(request, auth=(who.username, who.password) if who else None, stream=True)

    # What went wrong, in words

    def _refusal(self, response: httpx2.Response, text: bytes) -> RegistryError:
        status, host = response.status_code, self.endpoint.host
        said = _said(text)
        wait = _seconds(response.headers.get("Retry-After"))
        what = f"{host}/{self.endpoint.repository}" if self.endpoint.repository else host
        login = f"`composer login {host}` sets who you are there"
        message, hint = {
            401: (f"{host} refuses: {'wrong' if self._credentials else 'no'} credentials for {what}", login),
            403: (f"{host} forbids access to {what}", login),
            404: (
                f"{host} has no such image: {what}",
                "check the name and the tag; private ones may hide so",
            ),
            429: (
                f"{host} wants fewer requests",
                f"try again in {wait:.0f} s" if wait else "try again later",
            ),
        }.get(status, (f"{host} answered {status}", None))
        return RegistryError(message + said, hint=hint, status=status, retry_after=wait)

    def _explained(self, error: Exception, host: str = "") -> RegistryError:
        host, text = host or self.endpoint.host, re.sub(r"\[Errno -?\d+\] ", "", str(error))
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 10:
            chain.append(cause)
        untrusted = next((e for e in chain if isinstance(e, ssl.SSLCertVerificationError)), None)
        if untrusted is not None:
            return RegistryError(
                f"the certificate of {host} is not trusted: {untrusted.verify_message}",
                hint=f"put the authority's certificate into /etc/docker/certs.d/{host}/ca.crt",
            )
        if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text:
            return RegistryError(f"{host} does not speak TLS", hint="mark it as insecure in registries.conf")
        if isinstance(error, httpx2.TimeoutException):
            return RegistryError(f"{host} did not answer in time")
        if "Name or service not known" in text or "name resolution" in text or "No address" in text:
            return RegistryError(f"the name of the registry {host} cannot be resolved: {text}")
        return RegistryError(f"the connection to {host} failed: {text or type(error).__name__}")


def passes(failure: RegistryError) -> bool:
    """Whether it is worth asking again, after as long as the registry wants."""
    limited = failure.status == 429 and (failure.retry_after or 0) <= LONGEST_WAIT
    return failure.status in PASSING or limited


def _token_in(text: bytes, host: str) -> str:
    try:
        value = json.loads(text)
        token = value.get("token") or value["access_token"]
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise RegistryError(f"{host} gave no token") from error
    if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
        raise RegistryError(f"{host} gave a token that cannot be sent")
    return token


def _client(endpoint: Endpoint, settings: Registries) -> httpx2.Client:
    import truststore

    context: ssl.SSLContext
    if endpoint.insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities, shown = certificates(settings.certificates, endpoint.host)
    try:
        for authority in authorities:
            context.load_verify_locations(authority)
        if shown is not None:
            context.load_cert_chain(*shown)
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(f"the certificates for {endpoint.host} cannot be used: {error}") from error
    timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    return httpx2.Client(
        verify=context, timeout=timeout, follow_redirects=True, headers={"User-Agent": "composer"}
    )


def _limited(response: httpx2.Response) -> bytes:
    """The beginning of an answer that should be small; its connection is free afterwards."""
    data = bytearray()
    try:
        for piece in response.iter_raw():
            data += piece
            if len(data) > PIECE:
                break
    except httpx2.TransportError:
        pass  # what came is told; the status says the rest
    finally:
        response.close()
    return bytes(data)


def _said(data: bytes) -> str:
    """The registry's own words, in brackets."""
    try:
        errors = json.loads(data)["errors"]
        text = "; ".join(str(error.get("message") or error.get("code")) for error in errors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    return f" ({text[:300]})" if text else ""


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds, also when it is a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    if re.fullmatch("[0-9]{1,9}", text):
        return float(text)
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def wrong_size(digest: str, host: str) -> RegistryError:
    return RegistryError(f"{host} sends more than {short(digest)} should have")
