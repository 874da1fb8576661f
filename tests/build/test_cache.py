"""What is done again and what is not; builds that come out the same; what a killed build leaves."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from composer.build.cache import Cache
from composer.build.faults import DockerfileError
from composer.build.forget import LARGEST, VARIABLE, largest, size, trim
from composer.disk import boot_id
from composer.errors import ImageError, UsageError
from tests.build.conftest import BASE, Yard, rootfs

pytestmark = pytest.mark.kernel
FROM = "FROM example/base:1\n"
TEXT = FROM + "ARG v\nWORKDIR /w\nCOPY a .\nRUN cat a > b\nENV e=1\nLABEL l=1\nRUN touch c\n"


def steps(titles: list[str]) -> list[str]:
    return [title.partition("] ")[2].split()[0] for title in titles]


def test_nothing_is_done_twice(yard: Yard) -> None:
    yard.write("a")
    first = yard.build(TEXT)
    second = yard.build()
    assert (steps(first.done), second.done) == (["WORKDIR", "COPY", "RUN", "RUN"], [])
    assert second.image.id == first.image.id
    assert [event.status for event in second.events] == ["cached"] * 4


def test_a_touched_file_is_the_same_file(yard: Yard) -> None:
    path = yard.write("a")
    yard.build(TEXT)
    os.utime(path, (1, 1))
    assert yard.build().done == []
    path.write_text(path.read_text())
    assert yard.build().done == []


def test_what_changed_is_done_again_and_all_after_it(yard: Yard) -> None:
    path = yard.write("a")
    yard.build(TEXT)
    path.write_text("new")
    assert steps(yard.build().done) == ["COPY", "RUN", "RUN"]
    path.chmod(0o600)
    assert steps(yard.build().done) == ["COPY", "RUN", "RUN"]
    path.chmod(0o644)
    assert yard.build().done == []


def test_arguments_matter_to_commands_and_labels_to_none(yard: Yard) -> None:
    yard.write("a")
    yard.build(TEXT)
    assert steps(yard.build(args={"v": "2"}).done) == ["RUN", "RUN"]
    assert yard.build(args={"v": "2", "HTTP_PROXY": "http://x"}).done == []
    assert yard.build(TEXT.replace("LABEL l=1", "LABEL l=2")).done == []
    assert steps(yard.build(TEXT.replace("ENV e=1", "ENV e=2")).done) == ["RUN"]


def test_files_that_no_step_takes_do_not_matter(yard: Yard) -> None:
    yard.write("a")
    yard.build(TEXT)
    yard.write("other")
    assert yard.build().done == []


def test_a_stage_that_comes_out_the_same_changes_nothing_after_it(yard: Yard) -> None:
    text = "{0}RUN echo {1} > /dev/null; echo same > /out\n{0}COPY --from=0 /out /x\nRUN cat /x > /y\n"
    yard.build(text.format(FROM, 1))
    assert steps(yard.build(text.format(FROM, 2)).done) == ["RUN"]


def test_no_cache_does_all_again_and_keeps_that(yard: Yard) -> None:
    text = FROM + "RUN busybox head -c 8 /dev/urandom > /x\n"
    first = yard.build(text)
    second = yard.build(no_cache=True)
    assert len(second.done) == 1
    assert second.image.id != first.image.id
    third = yard.build()
    assert third.done == [] and third.image.id == second.image.id


def test_no_cache_of_one_stage(yard: Yard) -> None:
    text = f"{FROM[:-1]} AS a\nRUN touch /a\n{FROM[:-1]} AS b\nRUN touch /b\nCOPY --from=a /a /a\n"
    yard.build(text)
    assert [title for title in yard.build(no_cache_filter=("a",)).done if "a 1/1" in title]
    assert len(yard.build(no_cache_filter=("a",)).done) == 1


def test_removed_images_are_made_of_the_cache(yard: Yard) -> None:
    yard.write("a")
    first = yard.build(TEXT)
    yard.store.remove("t:1")
    again = yard.build()
    assert again.done == [] and again.image.id == first.image.id
    assert again.read("/w/b") == "x\n"
    assert yard.store.check() == []


def test_another_base_is_another_build(yard: Yard) -> None:
    yard.build(FROM + "RUN touch /x\n")
    yard.store.import_(rootfs(), BASE, changes=("ENV PATH=/bin", "LABEL new=1"))
    assert len(yard.build().done) == 1


def test_the_same_bytes_with_source_date_epoch(tmp_path: Path) -> None:
    """Two stores, two folders, two times: one image."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        yard = Yard(tmp_path / name)
        yard.environment["SOURCE_DATE_EPOCH"] = "1700000000"
        yard.write("d/a")
        yard.write("busybox", Path("/bin/busybox").read_bytes(), 0o755)
        built = yard.build("FROM scratch\nCOPY busybox /bin/sh\nCOPY d /d\nRUN echo hi > /d/b\nENV a=1\n")
        config = built.image.config
        found.append((built.image.id, config["rootfs"]["diff_ids"], config["created"]))
    assert found[0] == found[1]
    assert found[0][2] == "2023-11-14T22:13:20Z"


def test_trim_forgets_what_was_not_used(yard: Yard) -> None:
    yard.build(FROM + "RUN touch /x\n")
    cache = Cache(yard.paths)
    layers = cache.root / "layers"
    trim(cache)
    (layer,) = layers.iterdir()
    (layer / "size").write_bytes(b"")  # as a power cut leaves it
    trim(cache)
    assert layer.exists()
    trim(cache, unused=-10)
    assert not any(layers.iterdir())
    built = yard.build()
    assert len(built.done) == 1 and built.has("/x")


def test_the_longest_unused_goes_when_it_does_not_fit(yard: Yard) -> None:
    """A step, a cache mount: each as long as there is room."""
    big = "cat /bin/busybox >"
    yard.build(FROM + f"RUN {big}/one\nRUN {big}/two\nRUN --mount=type=cache,target=/c {big}/c/x\n")
    cache = Cache(yard.paths)
    before = size(cache)
    assert before > 900_000
    long_ago = time.time() - 1000
    first = next(path for path in (cache.root / "steps").iterdir() if has(cache, path, "one"))
    os.utime(first, (long_ago, long_ago))
    assert trim(cache, most=before - 1) > 300_000
    assert size(cache) < before - 300_000
    assert not first.exists()
    again = yard.build()
    assert len(again.done) == 1 and again.has("/one") and again.has("/two")
    trim(cache, most=0)
    assert size(cache) == 0 and not any(path.is_dir() for path in (cache.root / "mounts").iterdir())


def has(cache: Cache, step: Path, name: str) -> bool:
    layer = json.loads(step.read_text())["layer"]
    return bool(layer) and (cache.directory(layer) / name).exists()


def test_the_bound_is_one_variable() -> None:
    assert largest({}) == LARGEST
    assert largest({VARIABLE: "2g"}) == 2 << 30
    with pytest.raises(UsageError, match=VARIABLE):
        largest({VARIABLE: "much"})


def test_nothing_is_trimmed_during_a_build(yard: Yard) -> None:
    yard.build(FROM + "RUN touch /x\n")
    cache = Cache(yard.paths)
    with cache.building():
        trim(cache, unused=-10)
    assert yard.build().done == []


def test_a_layer_that_vanished_is_made_again(yard: Yard) -> None:
    yard.build(FROM + "RUN touch /x\n")
    cache = Cache(yard.paths)
    for path in (cache.root / "layers").iterdir():
        path.rename(path.with_name(f"gone-{path.name}"))
    assert len(yard.build().done) == 1


def test_what_a_crash_of_the_machine_may_have_damaged_is_not_used(yard: Yard) -> None:
    """Steps of a build that came to its end are good; what was written after the last one is not."""
    yard.build(FROM + "RUN touch /x\n")
    cache = Cache(yard.paths)
    before = boot_id()
    rename(cache, before, "another-start")
    assert yard.build().done == []
    (cache.root / "synced" / "another-start").unlink()
    assert len(yard.build().done) == 1
    for path in (cache.root / "steps").iterdir():
        path.write_text("")
    assert len(yard.build().done) == 1


def rename(cache: Cache, old: str, new: str) -> None:
    """Make all records be of another start of the machine."""
    for path in (cache.root / "steps").iterdir():
        path.write_text(path.read_text().replace(old, new))
    (cache.root / "synced" / old).rename(cache.root / "synced" / new)


RUNNER = """
import os, sys
from pathlib import Path
from composer.build.builder import Builder
from composer.build.request import Request
from composer.paths import Paths
paths = Paths(Path(sys.argv[1], "run"), Path(sys.argv[1], "state"))
tell = lambda event: print(event.status, event.text, flush=True)
Builder(paths, tell, dict(os.environ)).build([Request("t", ("t:1",), sys.argv[2])])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_build_leaves_nothing_running(yard: Yard, how: signal.Signals) -> None:
    """Whoever is killed, the step's container goes; the next build does it again."""
    mark = f"{os.getpid()}{time.monotonic_ns()}"
    yard.write("Dockerfile", FROM + f"RUN touch /x && echo begun && sleep 1000.{mark}\n")
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(yard.root), str(yard.context)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as out:
        while "begun" not in out.readline():
            assert process.poll() is None
        sleeper = next(pid for pid in os.listdir("/proc") if pid.isdigit() and mark in command_of(pid))
        watched = os.pidfd_open(int(sleeper))
        process.send_signal(how)
        process.wait(10)
        ended, _, _ = select.select([watched], [], [], 10)
        os.close(watched)
    assert ended
    work = Cache(yard.paths).root / "work"
    built = yard.build(FROM + "RUN touch /y\n")
    assert built.has("/y")
    assert [path for path in work.iterdir() if path.is_dir()] == []


def command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_a_failed_step_is_not_kept(yard: Yard) -> None:
    yard.write("a", "1")
    with pytest.raises(DockerfileError):
        yard.build(FROM + "COPY a /a\nRUN test $(cat /a) = 2\n")
    yard.write("a", "2")
    assert steps(yard.build().done) == ["COPY", "RUN"]


def test_missing_things_are_named(bare: Yard) -> None:
    with pytest.raises(ImageError, match="Dockerfile"):
        bare.build()
    with pytest.raises(ImageError, match="does not exist"):
        bare.build(context=str(bare.root / "nothing"))
