"""Warnings: what is accepted in silence elsewhere is named here, once, with its place."""

from __future__ import annotations

import pytest

from tests.model.test_load import loaded

CASES = [
    ("services: {a: {image: x, restart: sometimes}}", "services.a.restart", "is not a restart policy"),
    ("services: {a: {image: x, hostname: 'a b'}}", "services.a.hostname", "cannot be a host name"),
    ("services: {a: {image: x, deploy: {mode: sideways}}}", "services.a.deploy.mode", "is not a mode"),
    ("services: {a: {image: x, volumes: ['d:/d']}}", "services.a.volumes[0]", "is not absolute"),
    ("services: {a: {image: x, isolation: hyperv}}", "services.a.isolation", "has no effect"),
    (
        "services: {a: {image: x, ports: ['80:1']}, b: {image: x, ports: ['80:2']}}",
        "services.b.ports[0]",
        "`a`",
    ),
    (
        "services: {a: {image: x, ports: ['80:1'], network_mode: host}}",
        "services.a.ports",
        "are discarded with `network_mode: host`",
    ),
    (
        "services: {a: {image: x, ports: ['80:1'], networks: [n]}}\nnetworks: {n: {driver: macvlan}}",
        "services.a.ports",
        "are discarded on networks of the driver macvlan",
    ),
    (
        "services: {a: {image: x, logging: {driver: gelf}}}",
        "services.a.logging.driver",
        "there is no log driver `gelf` here",
    ),
    (
        "services: {a: {image: x, logging: {options: {max-sise: 1m}}}}",
        "services.a.logging.options.max-sise",
        "`max-sise` is no option of the log driver json-file",
    ),
    ("version: '3'\nservices: {a: {image: x}}", "version", "obsolete"),
]


@pytest.mark.parametrize(("text", "path", "message"), CASES)
def test_what_does_nothing_is_named(text: str, path: str, message: str) -> None:
    told = [str(warning) for warning in loaded(text).warnings]
    assert any(path in line and message in line and "/w/compose.yaml" in line for line in told), told


def test_each_key_is_named_once() -> None:
    told = loaded("services: {a: {image: x, isolation: p}, b: {image: x, isolation: p}}").warnings
    assert [warning.path for warning in told] == [("services", "a", "isolation")]


def test_an_unset_variable_warns_once_where_it_is_first_used() -> None:
    told = loaded("services: {a: {image: x, command: $Q, user: $Q}}").warnings
    assert [str(warning) for warning in told] == [
        "/w/compose.yaml:1:26: services.a.command: the variable Q is not set and stands for nothing"
    ]
    assert told[0].hint == "set it, or write ${Q:-}"
