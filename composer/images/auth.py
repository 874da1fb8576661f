"""Who we are to registries: Docker's config.json and its credential helpers.

Helpers speak the protocol of docker/docker-credential-helpers: `docker-credential-NAME get|store|erase`, the
server's name or JSON on the standard input.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.disk import write_atomic
from composer.errors import ImageError
from composer.images.reference import DEFAULT_REGISTRY
from composer.value import Value

HUB_KEY = "https://index.docker.io/v1/"
HELPER_TIMEOUT = 60  # seconds; a helper may ask its user


class Credentials(Value):
    """A name and a password, or instead of the password an identity token (OAuth 2 refresh token)."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"


class Keyring:
    """The credentials of one user. Podman's auth.json is read too, where Docker's file knows nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        home = Path(environ.get("HOME") or "/")
        self.path = Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
        podman = environ.get("REGISTRY_AUTH_FILE")
        runtime = environ.get("XDG_RUNTIME_DIR")
        self._also = Path(podman) if podman else Path(runtime) / "containers/auth.json" if runtime else None

    def get(self, registry: str) -> Credentials | None:
        """The credentials for `registry`, None for anonymous. Raises ImageError when a helper fails."""
        for path in (self.path, self._also):
            if path is None:
                continue
            config = _read(path)
            if helper := _helper(config, registry):
                if (found := _from_helper(helper, registry)) is not None:
                    return found
            elif (entry := _entry(config, registry)) is not None:
                return _decode(entry, path)
        return None

    def put(self, registry: str, credentials: Credentials) -> str:
        """Keep credentials; says where."""
        config = _read(self.path)
        key = HUB_KEY if registry == DEFAULT_REGISTRY else registry
        if helper := _helper(config, registry):
            secret = credentials.identity_token or credentials.password
            name = "<token>" if credentials.identity_token else credentials.username
            _run(helper, "store", json.dumps({"ServerURL": key, "Username": name, "Secret": secret}))
            return f"docker-credential-{helper}"
        pair = f"{credentials.username}:{credentials.password}".encode()
        entry = {"auth": base64.b64encode(pair).decode()}
        if credentials.identity_token:
            entry["identitytoken"] = credentials.identity_token
        config.setdefault("auths", {})[key] = entry
        self._write(config)
        return str(self.path)

    def remove(self, registry: str) -> bool:
        """Forget credentials; False when there were none."""
        config = _read(self.path)
        key = HUB_KEY if registry == DEFAULT_REGISTRY else registry
        if helper := _helper(config, registry):
            if _from_helper(helper, registry) is None:
                return False
            _run(helper, "erase", key)
            return True
        auths = config.get("auths") or {}
        known = [name for name in auths if _host(name) == _host(key)]
        for name in known:
            del auths[name]
        if known:
            self._write(config)
        return bool(known)

    def _write(self, config: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self.path, json.dumps(config, indent="\t").encode(), mode=0o600)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except ValueError as error:
        raise ImageError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("auths"), dict | None):
        raise ImageError(f"{path} is not a configuration of Docker")
    return value


def _host(key: str) -> str:
    """The registry that a key of `auths` is for; some are written as addresses."""
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_REGISTRY if host in ("index.docker.io", "registry-1.docker.io") else host


def _entry(config: dict[str, Any], registry: str) -> dict[str, Any] | None:
    for key, entry in (config.get("auths") or {}).items():
        if _host(key) == registry and isinstance(entry, dict) and entry:
            return entry
    return None


def _helper(config: dict[str, Any], registry: str) -> str | None:
    helpers = config.get("credHelpers")
    named = helpers if isinstance(helpers, dict) else {}
    found = next((name for key, name in named.items() if _host(key) == registry), None)
    found = found or config.get("credsStore")
    return found if isinstance(found, str) and found else None


def _decode(entry: dict[str, Any], path: Path) -> Credentials:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            pair = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"{path} holds credentials that are not base64") from error
        username, _, password = pair.partition(":")
    return Credentials(username, password.rstrip("\0"), str(entry.get("identitytoken") or ""))


def _from_helper(helper: str, registry: str) -> Credentials | None:
    key = HUB_KEY if registry == DEFAULT_REGISTRY else registry
    answer = _run(helper, "get", key)
    if answer is None:
        return None
    try:
        value = json.loads(answer)
        name, secret = str(value["Username"]), str(value["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"docker-credential-{helper} gave an answer that is no credentials") from error
    return Credentials(identity_token=secret) if name == "<token>" else Credentials(name, secret)


def _run(helper: str, verb: str, text: str) -> str | None:
    """What a helper answers; None when it has no such credentials."""
    if "/" in helper:
        raise ImageError(f"{helper!r} is not the name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb], input=text, capture_output=True, text=True, timeout=HELPER_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise ImageError(f"the credential helper {program} is not installed") from None
    except subprocess.TimeoutExpired:
        raise ImageError(f"{program} did not answer within {HELPER_TIMEOUT} s") from None
    if done.returncode == 0:
        return done.stdout
    said = (done.stdout or done.stderr).strip()
    if "credentials not found" in said:
        return None
    raise ImageError(f"{program} failed: {said[:200]}")
