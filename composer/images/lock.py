"""A stack's lock file: which digest each image name is held to. Half pure: one file, as text and back.

    # Written by `composer lock`: …
    images:
      docker.io/library/redis:7: sha256:…

A line per image in the order of their names, so that the same images give the same bytes, and a difference
between two versions of it reads well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from composer.disk import write_atomic
from composer.errors import Complaint, Place, StackFileError
from composer.images.reference import is_digest

HEAD = """\
# Written by `composer lock`: the images that `composer up --locked` and `composer pull --locked` hold to.
images:
"""
LARGEST = 1 << 20  # bytes
_LINE = re.compile(r" +(?P<name>[^\s#]+): (?P<digest>\S+) *")


def beside(stack_file: str) -> Path:
    """Where the lock file of a stack file is: `compose.yaml` has `compose.lock.yaml`."""
    path = Path(stack_file)
    return path.with_name(f"{path.stem}.lock.yaml")


def read(path: Path) -> dict[str, str]:
    """Digests by full name; none without a file. Raises StackFileError with every line that is wrong."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1).decode(errors="replace")
    except FileNotFoundError:
        return {}
    found: dict[str, str] = {}
    wrong: list[Complaint] = []
    if len(text) > LARGEST:
        raise StackFileError([Complaint(f"is larger than {LARGEST >> 20} MiB", Place(str(path)))])
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.rstrip() == "images:":
            continue
        match = _LINE.fullmatch(line)
        if match is None or not is_digest(match["digest"]):
            wrong.append(Complaint("is not `  NAME: DIGEST`", Place(str(path), number, 1)))
        else:
            found[match["name"]] = match["digest"]
    if wrong:
        raise StackFileError(wrong)
    return found


def write(path: Path, images: Mapping[str, str]) -> None:
    """Replace the file as a whole."""
    text = "".join(f"  {name}: {digest}\n" for name, digest in sorted(images.items()))
    write_atomic(path, f"{HEAD}{text}".encode())
