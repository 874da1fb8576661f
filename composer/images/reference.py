"""Names of images by Docker's rules. Pure.

The grammar is that of the distribution project (reference/reference.go); what is left out is filled in as
Docker does it: registry docker.io, there the repository's first part `library`, tag `latest`.
"""

from __future__ import annotations

import re
from functools import cache

from composer.errors import ImageError
from composer.value import Value

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGESTS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(Value):
    """A full name: nothing is left to be guessed. With neither tag nor digest it names a repository."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return self.name + tag + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """As short as Docker shows it: `nginx:1.27`, `me/app:latest`, `ghcr.io/me/app:latest`."""
        return str(self).removeprefix(f"{DEFAULT_REGISTRY}/library/").removeprefix(f"{DEFAULT_REGISTRY}/")

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest, which wins over the tag."""
        return self.digest or self.tag or DEFAULT_TAG


@cache
def _pattern() -> re.Pattern[str]:
    path = rf"(?P<path>{_PART}(?:/{_PART})*)"
    return re.compile(rf"(?:(?P<registry>{_REGISTRY})/)?{path}(?::(?P<tag>{_TAG}))?(?:@(?P<digest>\S+))?")


def parse(text: str, *, default_tag: str | None = DEFAULT_TAG) -> Reference:
    """The full reference that `text` stands for; `default_tag` when it has neither tag nor digest.

    Raises ImageError when it is none.
    """
    if not text:
        raise ImageError("an image name is empty", hint="give a name such as nginx:1.27")
    if len(text) == 64 and all(letter in "0123456789abcdef" for letter in text):
        raise ImageError(f"{text} is an image id, not a name", hint="give a name such as nginx:1.27")
    match = _pattern().fullmatch(_with_registry(text))
    if match is None:
        raise ImageError(f"{_shown(text)} is not a valid image name", hint=_hint(text))
    registry, path, tag, digest = match["registry"], match["path"], match["tag"], match["digest"]
    if len(f"{registry}/{path}") > MAX_NAME:
        raise ImageError(f"the image name {_shown(text)} is longer than {MAX_NAME} characters")
    if digest is not None and not is_digest(digest):
        raise ImageError(f"{digest!r} is not a digest", hint="a digest is sha256: and 64 hexadecimal digits")
    return Reference(registry, path, tag if tag or digest else default_tag, digest)


def is_digest(text: str) -> bool:
    """Whether `text` is a digest in one of the algorithms that are verified here."""
    algorithm, _, digits = text.partition(":")
    return len(digits) == _DIGESTS.get(algorithm, -1) and all(digit in "0123456789abcdef" for digit in digits)


def _with_registry(text: str) -> str:
    """Put the registry in front. The first part is one if it has a dot, colon or capital, or is localhost."""
    first, slash, rest = text.partition("/")
    is_registry = first == "localhost" or any(mark in first for mark in ".:[") or first != first.lower()
    if not slash or not is_registry:
        first, rest = DEFAULT_REGISTRY, text
    if first in (DEFAULT_REGISTRY, "index.docker.io"):
        first = DEFAULT_REGISTRY
        if "/" not in rest:
            rest = f"library/{rest}"
    return f"{first}/{rest}"


def _hint(text: str) -> str:
    if any(mark in text for mark in (" ", "\t", "\n")):
        return "it contains white space"
    if "://" in text:
        return "leave the https:// away"
    if text != text.lower():
        return "the repository must be lower case; capitals are allowed in the tag only"
    return "a name looks like [registry[:port]/]repository[:tag][@sha256:…]"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
