"""Caches that travel: what one host built, another does not build again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from composer.build.request import CachePlace
from composer.images.layout import Layout
from composer.images.store import REF_NAME
from tests.build.conftest import BASE, Built, Yard
from tests.images.conftest import Server, serve

__all__ = ["serve"]
pytestmark = pytest.mark.kernel

DOCKERFILE = f"""
    FROM {BASE} AS first
    RUN echo said; echo 1 >/one; mkdir -m 700 /private
    FROM {BASE}
    COPY --from=first /one /two
    RUN true
    RUN cat /two; rm /etc/group; echo 3 >/three
    """


@pytest.fixture
def far(tmp_path: Path, yard: Yard) -> Yard:
    """Another host, with the same base image."""
    (tmp_path / "far").mkdir()
    other = Yard(tmp_path / "far")
    with (tmp_path / "base.tar").open("wb") as out:
        yard.store.save([BASE], out)
    with (tmp_path / "base.tar").open("rb") as file:
        other.store.load(file)
    return other


def warned(built: Built) -> list[str]:
    return [event.text for event in built.events if event.status == "warning"]


def test_by_a_folder(yard: Yard, far: Yard, tmp_path: Path) -> None:
    folder = str(tmp_path / "cache")
    first = yard.build(DOCKERFILE, cache_to=(CachePlace(folder=folder, least=False),))
    assert first.said == ["said", "1"]
    again = far.build(DOCKERFILE, cache_from=(CachePlace(folder=folder),))
    assert again.done == [] and again.said == [] and warned(again) == []
    assert again.image.id == first.image.id
    assert again.read("/three") == "3\n" and not again.has("/etc/group")
    changed = far.build(DOCKERFILE.replace("echo 3", "echo 4"), cache_from=(CachePlace(folder=folder),))
    assert len(changed.done) == 1 and changed.read("/three") == "4\n"


def test_the_least_is_what_the_image_holds(yard: Yard, far: Yard, tmp_path: Path) -> None:
    place = CachePlace(folder=str(tmp_path / "cache"), tag="x")
    yard.build(DOCKERFILE, cache_to=(place,))
    again = far.build(DOCKERFILE, cache_from=(place,))
    assert again.said == ["said"], "the stage before has to be built, the steps of the image have not"
    assert again.read("/two") == "1\n"


def test_a_folder_keeps_what_its_tags_lead_to(yard: Yard, far: Yard, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    place, other = CachePlace(folder=str(folder)), CachePlace(folder=str(folder), tag="other")

    def size() -> int:
        return sum(path.stat().st_size for path in folder.rglob("blobs/*/*"))

    yard.build(f"FROM {BASE}\nRUN echo kept >/kept", cache_to=(other,))
    kept = size()
    for number in range(3):
        grows = f"FROM {BASE}\nRUN echo {number} >/x; cat /dev/urandom | head -c 100000 >/random"
        yard.build(grows, cache_to=(place,))
        assert size() - kept < 150_000
    again = far.build(grows, cache_from=(place, other))
    assert again.done == [] and warned(again) == []
    again = far.build(f"FROM {BASE}\nRUN echo kept >/kept", cache_from=(other,))
    assert again.done == [] and warned(again) == []


def test_a_folder_with_documents_of_others_loses_nothing(yard: Yard, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cache")
    theirs = layout.write(b'{"schemaVersion": 2, "theirs": {}}', "application/x")
    with layout.changing() as entries:
        entries.append({**theirs, "annotations": {REF_NAME: "theirs"}})
    loose = layout.write(b"theirs, too", "application/x")
    yard.build(f"FROM {BASE}\nRUN true", cache_to=(CachePlace(folder=str(layout.root)),))
    assert layout.has(theirs["digest"]) and layout.has(loose["digest"])


@pytest.mark.parametrize("inline", [False, True])
def test_by_a_registry(yard: Yard, far: Yard, serve: Callable[..., Server], inline: bool) -> None:
    name = f"{serve().host}/it/cache:1"
    if inline:
        yard.build(DOCKERFILE, images=(name,), cache_inline=True)
        anyio.run(yard.store.push, name)
    else:
        yard.build(DOCKERFILE, cache_to=(CachePlace(name),))
    again = far.build(DOCKERFILE, cache_from=(CachePlace(name),))
    assert again.said == ["said"] and warned(again) == []
    assert again.read("/three") == "3\n"


@pytest.mark.parametrize("wrong", ["absent", "image", "other machine", "steps", "blob", "diff id"])
def test_what_is_wrong_only_costs_the_work(yard: Yard, far: Yard, tmp_path: Path, wrong: str) -> None:
    folder = tmp_path / "cache"
    if wrong != "absent":
        yard.build(DOCKERFILE, cache_to=(CachePlace(folder=str(folder), least=False),))
        damage(folder, wrong)
    again = far.build(DOCKERFILE, cache_from=(CachePlace(folder=str(folder)),))
    assert again.said == ["said", "1"] and again.read("/three") == "3\n"
    assert any("not used" in text for text in warned(again))


def damage(folder: Path, wrong: str) -> None:
    from composer.images.layout import Layout

    layout = Layout(folder)
    with layout.changing() as entries:
        manifest = json.loads(layout.read(entries[0]["digest"]))
        config = json.loads(layout.read(manifest["config"]["digest"]))
        match wrong:
            case "image":
                del config["composer.cache"]
            case "other machine":
                config["composer.cache"]["platform"] = "linux/s390x"
            case "steps":
                config["composer.cache"]["steps"] = {"x": [99, ""]}
            case "diff id":
                config["rootfs"]["diff_ids"].reverse()
            case "blob":
                for layer in manifest["layers"]:
                    path = layout.path(layer["digest"])
                    path.write_bytes(b"x" * layer["size"])
        manifest["config"] = layout.write(json.dumps(config).encode(), manifest["config"]["mediaType"])
        made = layout.write(json.dumps(manifest).encode(), manifest["mediaType"])
        entries[0] = {**entries[0], **made}


def test_a_place_that_cannot_be_written(yard: Yard, serve: Callable[..., Server]) -> None:
    from composer.errors import ImageError

    gone = CachePlace("127.0.0.1:1/x")
    with pytest.raises(ImageError, match="cannot be written"):
        yard.build(f"FROM {BASE}\nRUN true", cache_to=(gone,))
    built = yard.build(f"FROM {BASE}\nRUN true", cache_to=(gone.replace(may_fail=True),))
    assert any("was not written" in text for text in warned(built))
