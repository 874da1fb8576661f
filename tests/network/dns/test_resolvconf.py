"""From the host's resolv.conf to a container's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.network.dns.resolvconf import container_text, upstreams

STUB = """# This is /run/systemd/resolve/stub-resolv.conf
nameserver 127.0.0.53
options edns0 trust-ad
search lan example.org
"""


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (STUB, ("127.0.0.53",)),
        ("", ("127.0.0.1",)),
        ("search lan\n", ("127.0.0.1",)),
        ("nameserver 10.0.0.1\nnameserver 10.0.0.2\n", ("10.0.0.1", "10.0.0.2")),
        ("nameserver\t10.0.0.1 # the router\n", ("10.0.0.1",)),
        ("nameserver 10.0.0.1\nnameserver 10.0.0.1", ("10.0.0.1",)),
        ("nameserver 2001:db8::1\nnameserver fe80::1%eth0\n", ("2001:db8::1", "fe80::1%eth0")),
        ("nameserver\nnameserver one.example\nnameserver 1.2.3\nnameserver 10.0.0.3", ("10.0.0.3",)),
        (
            "#nameserver 10.0.0.1\n;nameserver 10.0.0.2\n nameserver 10.0.0.3\nnameservers 10.0.0.4",
            ("127.0.0.1",),
        ),
        ("nameserver 10.0.0.1\r\n", ("10.0.0.1",)),
    ],
)
def test_upstreams(host: str, expected: tuple[str, ...]) -> None:
    assert upstreams(host) == expected


@pytest.mark.parametrize(
    ("host", "search", "options", "expected"),
    [
        ("", (), (), "nameserver 127.0.0.11\noptions ndots:0\n"),
        (STUB, (), (), "nameserver 127.0.0.11\nsearch lan example.org\noptions edns0 trust-ad ndots:0\n"),
        (STUB, ("corp",), (), "nameserver 127.0.0.11\nsearch corp\noptions edns0 trust-ad ndots:0\n"),
        (STUB, (".",), (), "nameserver 127.0.0.11\noptions edns0 trust-ad ndots:0\n"),
        (STUB, (), ("ndots:5",), "nameserver 127.0.0.11\nsearch lan example.org\noptions ndots:5\n"),
        (STUB, (".",), ("rotate",), "nameserver 127.0.0.11\noptions rotate ndots:0\n"),
        (
            "options ndots:3\noptions timeout:1\n",
            (),
            (),
            "nameserver 127.0.0.11\noptions ndots:3 timeout:1\n",
        ),
        ("search a\nsearch b c\n", (), (), "nameserver 127.0.0.11\nsearch b c\noptions ndots:0\n"),
        ("domain a.example\n", (), (), "nameserver 127.0.0.11\nsearch a.example\noptions ndots:0\n"),
        ("search a\ndomain b\n", (), (), "nameserver 127.0.0.11\nsearch b\noptions ndots:0\n"),
    ],
)
def test_container_text(host: str, search: tuple[str, ...], options: tuple[str, ...], expected: str) -> None:
    assert container_text(host, search=search, options=options) == expected


def test_a_container_on_the_hosts_network_asks_whom_the_host_asks() -> None:
    text = container_text(
        STUB, nameservers=upstreams("nameserver 10.0.0.1\nnameserver 10.0.0.2"), search=(".",)
    )
    assert text == "nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions edns0 trust-ad ndots:0\n"


@given(st.text(max_size=200))
def test_any_text_will_do(host: str) -> None:
    assert upstreams(host)
    assert container_text(host).startswith("nameserver 127.0.0.11\n")
