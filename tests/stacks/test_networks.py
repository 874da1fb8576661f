"""Networks as the users of a stack see them: who reaches whom, by which names and addresses."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from composer.network import registry
from composer.paths import Paths
from tests.host import Host
from tests.network.conftest import Host as Machine
from tests.stacks.site import SERVE, SERVER, address, call, look, reach, reaches
from tests.stacks.test_crash import kill, processes, until

pytestmark = pytest.mark.kernel
FILES = {"serve.py": SERVE}
UDP = socket.SOCK_DGRAM


def test_published_ports_from_everywhere(machine: Machine, site: Host) -> None:
    """By IPv4 and IPv6, from the host and from another one; on the loopback only where that was asked for."""
    other = machine.neighbour()
    machine.neighbour("2001:db8::1/64", "2001:db8::2/64")
    stack = site.stack(
        f"""
        services:
          web:{SERVER}
            environment: {{NAME: web}}
            ports: ["8080:80", "127.0.0.1:8081:80", "[::1]:8082:80", "8080:80/udp"]
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    assert call(machine, "127.0.0.1", 8080).startswith("web ")
    assert call(machine, "::1", 8080).startswith("web ")
    assert call(machine, "2001:db8::1", 8080).startswith("web ")
    assert call(machine, "::1", 8082).startswith("web ")
    assert call(machine, "127.0.0.1", 8081).startswith("web ")
    assert call(machine, "127.0.0.1", 8080, UDP).startswith("web ")
    assert call(machine, "::1", 8080, UDP).startswith("web ")
    assert call(other, "198.51.100.1", 8080) == "web 198.51.100.2"
    assert call(other, "198.51.100.1", 8081, seconds=0.3) == ""
    assert stack.ok("port", "web", "80").split() == ["0.0.0.0:8080"]
    (pid,) = processes(stack, "supervisor")
    kill(pid)
    until(lambda: [p for p in processes(stack, "supervisor") if p != pid])
    assert call(machine, "::1", 8080).startswith("web ")
    assert call(other, "198.51.100.1", 8080) == "web 198.51.100.2"
    stack.ok("stop")
    with machine.open() as again:
        again.bind(("0.0.0.0", 8080))


def test_a_firewall_that_ports_go_around_is_told_of(site: Host, machine: Machine) -> None:
    """By up, and by doctor, which says who reaches what."""
    machine.run("nft", "add table inet wall")
    machine.run("nft", "add chain inet wall in { type filter hook input priority 0; policy drop; }")
    stack = site.stack(
        f"""
        services:
          near:{SERVER}
            ports: ["127.0.0.1:8081:80"]
          web:{SERVER}
            ports: ["8080:80"]
        """,
        files=FILES,
    )
    assert "wall in drops what comes in" not in stack("up", "-d", "near").stderr
    assert "other hosts reach port 8080, although wall in drops" in stack("up", "-d").stderr
    found = json.loads(stack("doctor", "--format", "json").stdout)
    told = {each["text"]: each["state"] for each in found if each["title"] == "ports"}
    assert told == {
        f"{stack.name}: this host alone reaches 127.0.0.1:8081/tcp": "good",
        f"{stack.name}: other hosts reach 0.0.0.0:8080/tcp, [::]:8080/tcp, past wall in": "warning",
    }
    stack.ok("down")
    machine.run("nft", "delete table inet wall")


def test_a_port_leads_in_before_the_program_starts(site: Host, machine: Machine) -> None:
    """A program that calls itself by its published port as the first thing it does gets through."""
    stack = site.stack(
        """
        services:
          web:
            image: host
            ports: ["8080:80"]
            extra_hosts: ["me:host-gateway"]
            command:
              - python3
              - -SIc
              - |
                import socket
                server = socket.create_server(("0.0.0.0", 80))
                client = socket.create_connection(("me", 8080), 5)
                server.accept()
                print("through")
        """
    )
    assert "through" in stack.ok("up", "--no-log-prefix")


def test_ranges_and_ports_that_composer_chooses(site: Host, machine: Machine) -> None:
    """A range serves every instance; what was chosen stays over a recreate."""
    stack = site.stack(
        f"""
        services:
          web:{SERVER}
            ports: ["9000-9002:80", "81"]
            environment: {{A: "1"}}
        """,
        files=FILES,
    )
    stack.ok("up", "-d", "--scale", "web=3")

    def ports(target: str) -> list[str]:
        words = (("port", "--index", str(number), "web", target) for number in (1, 2, 3))
        return [stack.ok(*word).strip() for word in words]

    before = ports("80"), ports("81")
    assert sorted(before[0]) == ["0.0.0.0:9000", "0.0.0.0:9001", "0.0.0.0:9002"]
    assert len(set(before[1])) == 3
    text = (stack.folder / "compose.yaml").read_text()
    stack.rewrite(text.replace('A: "1"', 'A: "2"'))
    stack.ok("up", "-d", "--scale", "web=3")
    assert (ports("80"), ports("81")) == before
    shown = stack.ok("port", "web")
    assert "80/tcp -> 0.0.0.0:900" in shown and "81/tcp -> 0.0.0.0:" in shown


def test_a_taken_port_is_told_of_before_anything_starts(site: Host, machine: Machine) -> None:
    """By whom: a process, a container of another stack, a service of the same file."""
    text = f"""
        services:
          first:{SERVER}
          web:{SERVER}
            ports: ["8080:80"]
        """
    stack, other = site.stack(text, files=FILES), site.stack(text, "o", files=FILES)
    taken = machine.listen("127.0.0.1", 8080)
    done = stack("up", "-d")
    assert done.returncode == 1
    assert "service web: tcp port 8080 of this host is taken by" in done.stderr
    assert {row["State"] for row in stack.ps().values()} <= {"created"}
    taken.close()
    other.ok("up", "-d")
    done = stack("up", "-d")
    assert f"is taken by container {other.name}-web-1 of stack {other.name}" in done.stderr
    other.ok("down")
    stack.rewrite(text.replace("          web:", '            ports: ["8080:80"]\n          web:'))
    done = stack("up", "-d")
    assert "service web: tcp port 8080 of this host is taken by service first" in done.stderr
    stack.rewrite(text)
    stack.ok("up", "-d")
    assert call(machine, "127.0.0.1", 8080)


def test_a_failed_start_gives_its_port_back(site: Host, machine: Machine) -> None:
    text = """
        services:
          web:
            image: host
            init: true
            command: [no-such-program]
            ports: ["8080:80"]
        """
    stack = site.stack(text)
    assert stack("up", "-d").returncode == 1
    stack.rewrite(text.replace("[no-such-program]", "[sleep, '1000']"))
    stack.ok("up", "-d")


def test_flushed_rules_come_back(site: Host, machine: Machine) -> None:
    """Ports, isolation and the guard against forged senders, without anybody asking."""
    stack = site.stack(
        f"""
        services:
          a:{SERVER}
            ports: ["8080:80"]
          b:{SERVER}
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    assert call(machine, "127.0.0.1", 8080)

    def rules() -> list[str]:
        return sorted(machine.run("nft", "list", "ruleset").splitlines())

    before = rules()
    machine.run("nft", "flush", "ruleset")
    until(lambda: rules() == before)
    assert call(machine, "127.0.0.1", 8080)
    assert reach(stack, "a", "b")
    machine.run("nft", "delete", "table", "bridge", f"composer-{stack.name}-senders")
    until(lambda: rules() == before)
    assert reach(stack, "a", "b")


def test_senders_are_guarded_unless_they_may_administer(site: Host, machine: Machine) -> None:
    """Who takes another address is not heard from it; with NET_ADMIN it is."""
    stack = site.stack(
        f"""
        services:
          server:{SERVER}
          plain:{SERVER}
          admin:{SERVER}
            cap_add: [NET_ADMIN]
          root:{SERVER}
            privileged: true
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    senders = machine.run("nft", "list", "table", "bridge", f"composer-{stack.name}-senders")
    listed = {name: address(stack, name) in senders for name in ("server", "plain", "admin", "root")}
    assert listed == {"server": True, "plain": True, "admin": False, "root": False}
    new = address(stack, "server").rpartition(".")[0] + ".200"
    stack.ok("exec", "-T", "admin", "ip", "address", "add", f"{new}/16", "dev", "eth0")
    assert reach(stack, "server", new).endswith(address(stack, "server"))
    add = ("exec", "-T", "plain", "ip", "address", "add", f"{new}/16", "dev", "eth0")
    assert "Operation not permitted" in stack(*add).stderr


def test_addresses_stay_over_a_recreate(site: Host, machine: Machine) -> None:
    """Also while a service is scaled, and over `stop` and `start`; names of what is away have no data."""
    text = f"""
        services:
          web:{SERVER}
            environment: {{A: "1"}}
          peer:{SERVER}
        """
    stack = site.stack(text, files=FILES)
    stack.ok("up", "-d", "--scale", "web=3")
    before = [address(stack, "web", number=number) for number in (1, 2, 3)]
    assert len(set(before)) == 3
    assert look(stack, "peer", "web")["names"]["web"] == sorted(before)
    stack.rewrite(text.replace('A: "1"', 'A: "2"'))
    stack.ok("up", "-d", "--scale", "web=3")
    stack.ok("restart", "web")
    assert [address(stack, "web", number=number) for number in (1, 2, 3)] == before
    stack.ok("stop", "web")
    # 8.8.8.8 is nowhere: a name that was not known here would be asked for there, and take its time.
    assert stack.ok("exec", "-T", "peer", "python3", "-SIc", ASK, "web", f"{stack.name}-web-2").split() == [
        "0",
        "0",
    ]


ASK = """
import socket, struct, sys
for name in sys.argv[1:]:
    question = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + bytes(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(10)
        asker.sendto(struct.pack(">6H", 1, 256, 1, 0, 0, 0) + question + struct.pack(">2H", 1, 1),
                     ("127.0.0.11", 53))
        answer = asker.recv(2000)
        print(answer[3] & 15, "found" if answer[7] else "")
"""
"""The code of the answer to each name, as in RFC 1035: 0 is no error."""


def test_stacks_that_start_at_once_share_nothing(site: Host, machine: Machine) -> None:
    text = f"""
        services:
          a:{SERVER}
          b:{SERVER}
            networks: [default, other]
        networks: {{other: }}
        """
    stacks = [site.stack(text, f"n{number}", files=FILES) for number in range(4)]
    for process in [stack.start("up", "-d") for stack in stacks]:
        assert process.communicate()[1] is not None and process.returncode == 0
    records = [json.loads(path.read_text()) for path in (site.root / "state" / "networks").glob("[!.]*.json")]
    subnets = [pool["subnet"] for record in records for pool in record["pools"]]
    assert len(set(subnets)) == 8
    assert len({record["link"] for record in records}) == 8
    one, two = stacks[0], stacks[1]
    assert reach(one, "a", address(one, "b"))
    assert not reaches(one, "a", address(two, "a"))
    assert not reaches(one, "a", address(one, "b", "other"))


def test_internal_networks_reach_nothing_outside(site: Host, machine: Machine) -> None:
    """Not other hosts, not the host at any of its addresses; by a published port they are reached."""
    other = machine.neighbour()
    stack = site.stack(
        f"""
        services:
          inside:{SERVER}
            networks: [back]
            ports: ["8080:80"]
          front:{SERVER}
            networks: [default, back]
        networks:
          back: {{internal: true}}
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    machine.listen("0.0.0.0", 9000)
    served = other.listen("0.0.0.0", 9000)
    gateway = address(stack, "inside", "back").rpartition(".")[0] + ".1"
    front = address(stack, "front").rpartition(".")[0] + ".1"
    for target in (gateway, front, "198.51.100.1", "198.51.100.2"):
        assert not reaches(stack, "inside", target, 9000), target
    assert reach(stack, "front", "inside")
    assert call(other, "198.51.100.1", 8080).endswith(gateway)
    ask = "import socket; socket.create_connection(('198.51.100.2', 9000), 10)"
    client = stack.start("exec", "-T", "front", "python3", "-SIc", ask)
    accepted, peer = served.accept()
    assert peer[0] == "198.51.100.1"
    accepted.close()
    client.communicate()


def test_connect_and_disconnect_a_running_container(site: Host, machine: Machine) -> None:
    """At once, and still so after a restart; names and addresses follow."""
    stack = site.stack(
        f"""
        services:
          web:{SERVER}
            networks: [default]
            ports: ["8080:80"]
          peer:{SERVER}
            networks: [other]
        networks: {{other: }}
        """,
        files=FILES,
    )
    stack.ok("up", "-d")

    def switch(verb: str, network: str, *flags: str) -> None:
        stack.ok("network", verb, *flags, f"{stack.name}_{network}", f"{stack.name}-web-1")

    assert look(stack, "peer", "web")["names"]["web"] == []
    fixed = address(stack, "peer", "other").rpartition(".")[0] + ".77"
    first = address(stack, "web")
    stack.ok("exec", "-T", "web", "sh", "-c", "echo 192.0.2.1 mine >> /etc/hosts")
    link = f"{stack.name}-peer-1:friend"
    switch("connect", "other", "--alias", "site", "--ip", fixed, "--gw-priority", "7", "--link", link)
    hosts = look(stack, "web")["hosts"]
    assert all(f"{found} " in hosts.replace("\t", " ") for found in (fixed, first, "192.0.2.1"))
    for _ in range(2):
        assert look(stack, "web")["default"] == ["eth1"]
        assert look(stack, "peer", "web", "site")["names"] == {"web": [fixed], "site": [fixed]}
        assert reach(stack, "peer", "site")
        seen = look(stack, "web", "friend", "peer")["names"]
        assert seen["friend"] == seen["peer"] != []
        assert look(stack, "peer", "friend")["names"]["friend"] == []
        assert set(look(stack, "web")["links"]) == {"lo", "eth0", "eth1"}
        stack.ok("restart", "web")
    switch("disconnect", "default")
    seen = look(stack, "web", "peer")
    (left,) = seen["links"].keys() - {"lo"}
    assert seen["default"] == [left]
    assert seen["names"]["peer"]
    assert fixed in seen["hosts"] and first not in seen["hosts"]
    assert call(machine, "127.0.0.1", 8080)
    switch("disconnect", "other")
    assert set(look(stack, "web")["links"]) == {"lo"}
    assert look(stack, "peer", "site")["names"]["site"] == []
    stack.ok("restart", "web")
    switch("connect", "default")
    assert call(machine, "127.0.0.1", 8080)


def test_a_network_of_ipv6_alone_and_addresses_of_who_is_gone(host: Host) -> None:
    name = f"{host.mark}six"
    refused = host.composer("network", "create", "--ipv4=false", name)
    assert (refused.returncode, "needs addresses" in refused.stderr) == (2, True)
    assert host.composer("network", "create", "--ipv4=false", "--ipv6", name).returncode == 0
    (shown,) = json.loads(host.composer("network", "inspect", name).stdout)
    assert (shown["EnableIPv4"], shown["EnableIPv6"]) == (False, True)
    stack = host.stack(f"""
        services: {{web: {{image: host, command: [sleep, "1000"], init: true, networks: [n]}}}}
        networks: {{n: {{external: true, name: {name}}}}}
    """)
    stack.ok("up", "-d")
    web = f"{stack.name}-web-1"
    stack.ok("network", "disconnect", "-f", name, web)
    paths = Paths(host.root / "run", host.root / "state")
    record = registry.inspect(paths, name)
    registry.leases(paths, [registry.LeaseRequest(record, f"{stack.name}/gone-1")])
    assert "no container gone-1" in host.composer("network", "disconnect", name, "gone-1").stderr
    assert host.composer("network", "rm", name).returncode == 1
    assert host.composer("network", "disconnect", "--force", name, "gone-1").returncode == 0
    stack.ok("down", "-t", "0")
    assert host.composer("network", "rm", name).returncode == 0


def test_the_hosts_resolvers_are_followed(site: Host, machine: Machine) -> None:
    """A change of /etc/resolv.conf counts for containers that run; a resolver on the host's loopback is
    asked as any other, also when there is no file.
    """
    stack = site.stack(f"services:\n  web:{SERVER}".replace("            ", "    "), files=FILES)
    (site.root / "etc").mkdir()
    subprocess.run(["cp", "-a", "/etc/.", site.root / "etc"], check=True)
    path = site.root / "etc" / "resolv.conf"
    path.unlink()
    path.write_text("nameserver 127.0.0.53\n")
    names = [machine.listen(name, 53, UDP) for name in ("127.0.0.53", "127.1.1.2", "127.0.0.1")]
    start = f'mount --bind {site.root}/etc /etc && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", start, "sh", sys.executable, "-m", "composer"]

    def run(*words: str) -> str:
        where = {"cwd": stack.folder, "env": site.environment}
        done = subprocess.run([*command, *words], **where, stdout=subprocess.PIPE, text=True, timeout=60)  # type: ignore[call-overload]
        assert done.returncode == 0
        return str(done.stdout)

    run("up", "-d")
    for number, server in enumerate(names):
        asker = stack.start("exec", "-T", "web", "python3", "-SIc", ASK, f"name{number}.example")
        question, peer = server.recvfrom(2000)
        server.sendto(question[:2] + b"\x81\x83" + question[4:], peer)
        assert asker.communicate()[0].split() == ["3"]
        if number == 0:
            new = site.root / "etc" / "new"
            new.write_text("nameserver 127.1.1.2\n")
            new.rename(path)
        else:
            path.unlink(missing_ok=True)
    told = {each["title"]: each["text"] for each in json.loads(run("doctor", "--format", "json"))}
    assert told["names"] == "/etc/resolv.conf names no resolver; 127.0.0.1 is asked"


def test_an_orphan_keeps_its_names(site: Host, machine: Machine) -> None:
    """A container that no file describes any more is found by name, also after a crash; then no more."""
    old = f"""
          old:{SERVER}"""
    text = f"""
        services:
          web:{SERVER}"""
    stack = site.stack(text + old, files=FILES)
    stack.ok("up", "-d")
    stack.rewrite(text)
    stack.ok("up", "-d")
    (pid,) = processes(stack, "supervisor")
    kill(pid)
    until(lambda: [p for p in processes(stack, "supervisor") if p != pid])
    assert look(stack, "web", "old")["names"]["old"] == [address(stack, "old")]
    stack.ok("up", "-d", "--remove-orphans")
    assert look(stack, "web", "old")["names"]["old"] == []
