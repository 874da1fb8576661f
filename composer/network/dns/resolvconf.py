"""The text of resolv.conf(5): the host's is read, a container's is written. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

RESOLVER = "127.0.0.11"
"""Where every container on a network of ours finds its resolver."""


def upstreams(host: str) -> tuple[str, ...]:
    """The nameservers of the host's resolv.conf, in order; lines that name none are skipped, as glibc does.

    Without any it is 127.0.0.1, again as for the host itself; never a public one that nobody chose.
    """
    found = [words[1] for words in _lines(host) if words[0] == "nameserver" and _is_address(words[1])]
    return tuple(dict.fromkeys(found)) or ("127.0.0.1",)


def container_text(
    host: str,
    *,
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    nameservers: Sequence[str] = (RESOLVER,),
) -> str:
    """A container's resolv.conf; search list and options are the service's own or else the host's.

    `nameservers` differ only where a container has the host's network. `dns_search: .` means no search list.
    Unless something says otherwise, `ndots:0` has a name without a dot tried as it stands before any search
    domain is put behind it: the names of services come first.
    """
    search = search or _last(host, "search", "domain")
    options = options or [option for words in _lines(host) if words[0] == "options" for option in words[1:]]
    if not any(option.startswith("ndots:") for option in options):
        options = [*options, "ndots:0"]
    lines = [f"nameserver {address}" for address in nameservers]
    if search and "." not in search:
        lines.append("search " + " ".join(search))
    lines.append("options " + " ".join(options))
    return "\n".join(lines) + "\n"


def _lines(text: str) -> list[list[str]]:
    """The words of every line that says something: a keyword at the very start, and at least one value."""
    lines = [line.split() for line in text.splitlines() if line[:1] not in ("#", ";", " ", "\t")]
    return [words for words in lines if len(words) > 1]


def _last(text: str, *keywords: str) -> list[str]:
    values = [words[1:] for words in _lines(text) if words[0] in keywords]
    return values[-1] if values else []


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
