"""Networks that every host has, as networks of a stack."""

from __future__ import annotations

import pytest

from composer.errors import StackFileError
from tests.model.test_load import loaded

WEB = "services: {web: {image: x, networks: [n]}}\n"


@pytest.mark.parametrize(
    ("network", "mode"),
    [
        ("{external: true, name: host}", "host"),
        ("{external: true, name: none}", "none"),
        ("{external: true, name: bridge}", "bridge"),
        ("{driver: host}", "host"),
        ("{driver: none}", "none"),
        ("{name: host}", ""),
        ("{external: true, name: hosts}", ""),
        ("{driver: macvlan}", ""),
    ],
)
def test_they_are_modes(network: str, mode: str) -> None:
    stack = loaded(f"{WEB}networks: {{n: {network}}}").stack
    assert stack.services["web"].network_mode == mode
    assert ("n" in stack.networks, "n" in stack.services["web"].networks) == (not mode, not mode)


def test_they_exclude_others() -> None:
    text = "services: {web: {image: x, networks: [n, m]}}\nnetworks: {m: , n: {external: true, name: host}}"
    with pytest.raises(StackFileError, match="`n` is the host network, which excludes every other"):
        loaded(text)
