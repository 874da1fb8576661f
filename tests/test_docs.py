"""What the documentation shows works: marked blocks of a page are carried out, in order, in one folder.

```yaml file=compose.yaml      is written to a file
```python run                  is run
```console run                 lines after `$` are run; what follows must be in their output
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.host import Host

DOCS = Path(__file__).parents[1] / "docs"
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FENCE = re.compile(r"^```(\w+) (run|file=\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    what: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(m[1], m[2], m[3], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


PAGES = [page for page in sorted(DOCS.glob("*.md")) if blocks(page)]


def carry_out(block: Block, folder: Path, environment: dict[str, str]) -> None:
    """Raises AssertionError."""
    if block.what.startswith("file="):
        (folder / block.what.removeprefix("file=")).write_text(block.text)
    elif block.language == "python":
        run([sys.executable, "-W", "error", "-c", block.text], folder, environment)
    else:
        for command in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, wanted = command.partition("\n")
            said = run(["sh", "-c", line], folder, environment)
            for part in wanted.splitlines():
                assert part in said, f"{part!r} is not in\n{said}"


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pages_with_examples_are_found() -> None:
    assert {"python.md", "testing.md"} <= {page.name for page in PAGES}


def anchors(page: Path) -> set[str]:
    """What GitHub makes of its headings."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    "page", [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.stem
)
def test_links_lead_somewhere(page: Path) -> None:
    for name, anchor in LINK.findall(page.read_text()):
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


@pytest.mark.kernel
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_works(page: Path, host: Host) -> None:
    folder = host.root / host.mark
    folder.mkdir()
    # pytest must not look for its settings above, in ours.
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    here = os.path.dirname(sys.executable)
    environment = {**host.environment, "PATH": f"{here}:{os.environ['PATH']}"}
    for block in blocks(page):
        try:
            carry_out(block, folder, environment)
        except AssertionError as error:
            pytest.fail(f"{page.name}:{block.line}: {error}", pytrace=False)
