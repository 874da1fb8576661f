"""Base images from a registry, and what was built sent there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from composer.errors import ImageError
from tests.build.conftest import BASE, Yard
from tests.images.conftest import Server, home, serve

__all__ = ["home", "serve"]
pytestmark = pytest.mark.kernel


def test_a_base_is_pulled_and_the_result_pushed(
    yard: Yard, serve: Callable[..., Server], tmp_path: Path
) -> None:
    host = serve().host
    yard.build(f"FROM {BASE}\nENV v=1\n", images=(f"{host}/base:1",), push=True)
    (tmp_path / "other").mkdir()
    other = Yard(tmp_path / "other")
    text = f"FROM {host}/base:1\nRUN touch /x\nFROM scratch\n"
    text += f"COPY --from={host}/base:1 /etc/group /g\nCOPY --from=0 /x /x\n"
    built = other.build(text, images=(f"{host}/made:1",), push=True)
    assert built.listing() == ["/g", "/x"]
    assert other.build().done == []
    yard.build(f"FROM {BASE}\nENV v=2\n", images=(f"{host}/base:1",), push=True)
    assert [event.status for event in other.build().events] == ["cached"] * 3
    assert any("touch" in title for title in other.build(pull=True).done)
    assert yard.store.find(f"{host}/made:1") is None
    assert yard.build(f"FROM {host}/made:1\n").listing() == ["/g", "/x"]


def test_a_base_that_is_nowhere(yard: Yard, serve: Callable[..., Server]) -> None:
    with pytest.raises(ImageError, match="no/where"):
        yard.build(f"FROM {serve().host}/no/where:1\n")
