"""Which servers stand behind a registry's name: mirrors, plain HTTP, certificates.

Taken from the files that the user's other tools use: registries.conf in its version 2
(containers-registries.conf(5)), Docker's daemon.json (`registry-mirrors`, `insecure-registries`), and
`certs.d/<host:port>/` of both.
"""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from composer.errors import ImageError
from composer.images.reference import DEFAULT_REGISTRY, Reference
from composer.value import Value

DOCKER_HUB = "registry-1.docker.io"


class Endpoint(Value):
    """One server to ask: `host[:port]`, the repository's name there, and whether plain HTTP and any
    certificate are good enough."""

    host: str
    repository: str
    insecure: bool = False
    mirror: bool = False


class Rule(Value):
    """One [[registry]] of registries.conf."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[tuple[str, bool], ...] = ()


class Registries(Value):
    """The rules, the most specific first, and where certificates may be."""

    rules: tuple[Rule, ...] = ()
    insecure: tuple[str, ...] = ()
    certificates: tuple[Path, ...] = ()

    def endpoints(self, reference: Reference) -> list[Endpoint]:
        """The servers to ask for `reference`: mirrors, then the registry itself. Raises ImageError."""
        for rule in self.rules:
            rest = _below(rule.prefix, reference)
            if rest is None:
                continue
            if rule.blocked:
                raise ImageError(f"{rule.prefix} is blocked", hint="registries.conf on this host says so")
            places = [(*mirror, True) for mirror in rule.mirrors]
            location = rule.location or (reference.name.removesuffix(rest) if rest else reference.name)
            places.append((location, rule.insecure, False))
            return [self._endpoint(place + rest, insecure, mirror) for place, insecure, mirror in places]
        return [self._endpoint(reference.name, False, False)]

    def _endpoint(self, name: str, insecure: bool, mirror: bool) -> Endpoint:
        host, _, repository = name.partition("/")
        if host == DEFAULT_REGISTRY:
            host = DOCKER_HUB
        return Endpoint(host, repository, insecure or self._is_insecure(host), mirror)

    def _is_insecure(self, host: str) -> bool:
        """Named so in daemon.json, or on this machine: Docker's rule."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if host in self.insecure or name in self.insecure or name == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        networks = [entry for entry in self.insecure if "/" in entry]
        return address.is_loopback or any(_is_in(address, network) for network in networks)


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _below(prefix: str, reference: Reference) -> str | None:
    """What follows `prefix` in the reference's name, or None when it does not begin so."""
    if prefix.startswith("*."):
        if "/" in prefix or not reference.registry.endswith(prefix[1:]):
            return None
        return f"/{reference.repository}"
    if reference.name == prefix or reference.name.startswith(f"{prefix}/"):
        return reference.name[len(prefix) :]
    return None


def read(environ: Mapping[str, str]) -> Registries:
    """The settings of this host and user. Raises ImageError for a file that cannot be understood."""
    home = Path(environ.get("HOME") or "/")
    own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = environ.get("CONTAINERS_REGISTRIES_CONF")
    places = (own / "containers/registries.conf", Path("/etc/containers/registries.conf"))
    conf = Path(named) if named else next((path for path in places if path.exists()), None)
    rules = tuple(_rules(conf)) if conf else ()
    daemon = _daemon(Path("/etc/docker/daemon.json"))
    if mirrors := daemon.get("registry-mirrors"):
        hub = Rule(DEFAULT_REGISTRY, "", mirrors=tuple(_mirror(str(url)) for url in mirrors))
        rules = (*rules, hub)
    directories = (
        own / "containers/certs.d",
        home / ".docker/certs.d",
        Path("/etc/containers/certs.d"),
        Path("/etc/docker/certs.d"),
    )
    insecure = tuple(str(host) for host in daemon.get("insecure-registries") or ())
    return Registries(tuple(sorted(rules, key=lambda rule: -len(rule.prefix))), insecure, directories)


def _rules(path: Path) -> Iterator[Rule]:
    try:
        tables = tomllib.loads(path.read_text()).get("registry", [])
        for table in tables:
            mirrors = tuple((str(m["location"]), bool(m.get("insecure"))) for m in table.get("mirror", ()))
            prefix = str(table.get("prefix") or table["location"])
            location = str(table.get("location") or "")
            flags = bool(table.get("insecure")), bool(table.get("blocked"))
            yield Rule(prefix, location, *flags, mirrors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"{path} cannot be understood: {error}") from error


def _daemon(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except OSError:
        return {}
    except ValueError as error:
        raise ImageError(f"{path} is not valid JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def _mirror(url: str) -> tuple[str, bool]:
    scheme, _, rest = url.rpartition("://")
    return rest.rstrip("/"), scheme == "http"


def certificates(directories: tuple[Path, ...], host: str) -> tuple[list[Path], tuple[Path, Path] | None]:
    """Authorities to trust for `host`, and the certificate and key to show to it, by Docker's names for
    files.
    """
    authorities: list[Path] = []
    for directory in directories:
        folder = directory / host
        if not os.access(folder, os.R_OK | os.X_OK):
            continue
        authorities += sorted(folder.glob("*.crt"))
        for shown in sorted(folder.glob("*.cert")):
            if (key := shown.with_suffix(".key")).exists():
                return authorities, (shown, key)
    return authorities, None
