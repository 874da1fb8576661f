"""A file is followed through every way of replacing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from composer.supervisor.hostfile import follow


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)


def rename_over(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def link_elsewhere(path: Path, text: str) -> None:
    target = path.parent / f"target-{text}"
    target.write_text(text)
    new = path.with_name("new-link")
    new.symlink_to(target)
    new.rename(path)


def behind_a_link(path: Path, text: str) -> None:
    (path.parent / "far").mkdir(exist_ok=True)
    if not path.is_symlink():
        path.unlink()
        path.symlink_to("far/file")
    rename_over(path.parent / "far" / "file", text)


@pytest.mark.parametrize("change", [rewrite, rename_over, link_elsewhere, behind_a_link])
def test_every_change_is_heard_of(tmp_path: Path, change: Callable[[Path, str], None]) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("zero")

    async def main() -> None:
        sending, receiving = anyio.create_memory_object_stream[str](100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, path, sending.send_nowait)
            await anyio.wait_all_tasks_blocked()
            for text in ("one", "two", "three"):
                change(path, text)
                with anyio.fail_after(10):
                    while await receiving.receive() != text:
                        pass
            tasks.cancel_scope.cancel()
        sending.close()
        receiving.close()

    anyio.run(main)
