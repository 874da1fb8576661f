"""Every key of a stack file that is about networks, by what it does inside the containers."""

from __future__ import annotations

import pytest

from tests.host import Host
from tests.network.conftest import Host as Machine
from tests.stacks.site import SERVE, SERVER, address, call, look, reach, reaches

pytestmark = pytest.mark.kernel
FILES = {"serve.py": SERVE}


def test_names(site: Host, machine: Machine) -> None:
    """Aliases, links, external_links, extra_hosts, dns, dns_search, dns_opt, hostname, domainname."""
    stack = site.stack(
        f"""
        services:
          db:{SERVER}
            networks: {{default: {{aliases: [database, db.example.com]}}}}
          web:{SERVER}
            hostname: front
            domainname: example.org
            links: ["db:store", db]
            external_links: ["${{COMPOSE_PROJECT_NAME}}-db-1:outside"]
            extra_hosts: ["fixed:192.0.2.7", "six=2001:db8::7", "me:host-gateway"]
            dns: [127.1.1.9]
            dns_search: [example.net]
            dns_opt: ["ndots:2", "timeout:1"]
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    db = address(stack, "db")
    asked = (
        "db",
        "database",
        "db.example.com",
        "store",
        "outside",
        f"{stack.name}-db-1",
        "me",
        "fixed",
        "six",
    )
    seen = look(stack, "web", *asked, f"db.{stack.name}_default")
    gateway = db.rpartition(".")[0] + ".1"
    others = {"me": [gateway], "fixed": ["192.0.2.7"], "six": ["2001:db8::7"]}
    assert seen["names"] == {name: [db] for name in seen["names"]} | others
    assert look(stack, "db", "store", "web")["names"] == {"store": [], "web": [address(stack, "web")]}
    assert (seen["hostname"], seen["domainname"]) == ("front", "example.org")
    assert f"{address(stack, 'web')}\tfront.example.org front\n" in seen["hosts"]
    assert seen["resolv.conf"].splitlines() == [
        "nameserver 127.0.0.11",
        "search example.net",
        "options ndots:2 timeout:1",
    ]


def test_places(site: Host, machine: Machine) -> None:
    """Fixed addresses, MACs, names and order of interfaces, the way out, link-local addresses, the MTU."""
    stack = site.stack(
        f"""
        services:
          web:{SERVER}
            ports: ["8080:80"]
            networks:
              a: {{ipv4_address: 10.201.1.50, mac_address: "02:00:00:00:00:01", priority: 1}}
              b: {{ipv4_address: 10.201.2.50, ipv6_address: "fd00:201::50", gw_priority: 5}}
              c: {{interface_name: wan, link_local_ips: [169.254.9.9], priority: 10}}
          mac:{SERVER}
            mac_address: "02:00:00:00:00:02"
            networks: [a]
        networks:
          a: {{ipam: {{config: [{{subnet: 10.201.1.0/24, ip_range: 10.201.1.128/25}}]}}}}
          b:
            enable_ipv6: true
            ipam: {{config: [{{subnet: 10.201.2.0/24, gateway: 10.201.2.9}}, {{subnet: "fd00:201::/64"}}]}}
          c:
            driver_opts: {{com.docker.network.driver.mtu: "1400", com.docker.network.bridge.name: my-bridge}}
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    seen = look(stack, "web")
    assert set(seen["links"]) == {"lo", "wan", "eth0", "eth1"}
    assert seen["links"]["eth0"] == "02:00:00:00:00:01"
    assert seen["default"] == ["eth1"]
    assert seen["mtu"]["wan"] == 1400
    inside = stack.ok("exec", "-T", "web", "ip", "address")
    for found in ("10.201.1.50/24", "10.201.2.50/24", "fd00:201::50/64", "169.254.9.9/16"):
        assert found in inside
    assert "via 10.201.2.9" in stack.ok("exec", "-T", "web", "ip", "route")
    assert "my-bridge" in machine.run("ip", "-o", "link")
    assert look(stack, "mac")["links"]["eth0"] == "02:00:00:00:00:02"
    assert int(address(stack, "mac", "a").rpartition(".")[2]) >= 128
    assert call(machine, "127.0.0.1", 8080)
    assert "10.201.2.50" in machine.run("nft", "list", "map", "inet", f"composer-{stack.name}", "any4")


def test_modes(site: Host, machine: Machine) -> None:
    """The host's network, none at all, another service's, a container's, and a plain bridge."""
    stack = site.stack(
        f"""
        services:
          web:{SERVER}
            environment: {{NAME: web}}
          beside:
            image: host
            init: true
            command: [sleep, "1000"]
            network_mode: service:web
          near:
            image: host
            init: true
            command: [sleep, "1000"]
            network_mode: container:${{COMPOSE_PROJECT_NAME}}-web-1
            depends_on: [web]
          alone:{SERVER}
            network_mode: none
          machine:{SERVER}
            network_mode: host
            extra_hosts: ["fixed:192.0.2.7"]
            environment: {{PORT: "8090", NAME: machine}}
          plain:{SERVER}
            network_mode: bridge
            ports: ["8080:80"]
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    for service in ("beside", "near"):
        assert reach(stack, service, "127.0.0.1") == "web 127.0.0.1"
        seen = look(stack, service, "web")
        assert seen["names"]["web"] == [address(stack, "web")]
        assert seen["hostname"] == look(stack, "web")["hostname"]
        assert stack.ok("exec", "-T", service, "cat", "/etc/hostname").strip() == seen["hostname"]
    assert set(look(stack, "alone")["links"]) == {"lo"}
    assert call(machine, "127.0.0.1", 8090) == "machine 127.0.0.1"
    assert look(stack, "machine", "fixed")["names"]["fixed"] == ["192.0.2.7"]
    assert call(machine, "127.0.0.1", 8080)
    assert look(stack, "plain")["default"] == ["eth0"]
    assert not reaches(stack, "web", address(stack, "plain", "bridge"))


def test_the_network_of_a_container_of_another_stack(site: Host, machine: Machine) -> None:
    """By its name or by the beginning of its id; of a stack or alone."""
    one = site.stack(f"services:\n  web:{SERVER}".replace("            ", "    "), "one", files=FILES)
    mode = "network_mode: container:"
    two = site.stack(
        f"""
        services:
          near: {{image: host, init: true, command: [sleep, "1000"], {mode}{one.name}-web-1}}
        """,
        "two",
    )
    assert f"container:{one.name}-web-1 is not running" in two("up", "-d").stderr
    one.ok("up", "-d")
    two.ok("up", "-d")
    assert reach(two, "near", "127.0.0.1").endswith(" 127.0.0.1")
    assert reach(two, "near", "web")
    assert look(two, "near")["hostname"] == look(one, "web")["hostname"]
    alone = site.composer("container", "run", "-d", "--name", f"{site.mark}alone", "host", "sleep", "1000")
    identity = alone.stdout.strip()
    three = site.stack(
        f"""
        services:
          near: {{image: host, init: true, command: [sleep, "1000"], {mode}{identity[:12]}}}
        """,
        "three",
    )
    three.ok("up", "-d")
    assert look(three, "near")["hostname"] == identity[:12]
    assert site.composer("container", "rm", "-f", f"{site.mark}alone").returncode == 0


def test_what_cannot_be_said_beside_another(site: Host) -> None:
    """Whose network it is says ports and names; told before anything starts."""
    stack = site.stack(
        """
        services:
          web: {image: host, command: [sleep, "1000"]}
          near:
            image: host
            command: [sleep, "1000"]
            network_mode: service:web
            ports: ["8080:80"]
        """
    )
    told = stack("up", "-d").stderr
    assert "service near: `ports` and `network_mode: service:web` exclude each other" in told
    assert not stack.ps()


def test_ports_that_no_network_can_publish(site: Host, machine: Machine) -> None:
    machine.neighbour()
    stack = site.stack(
        f"""
        services:
          web:{SERVER}
            networks: [wire]
            ports: ["8080:80"]
        networks:
          wire:
            driver: macvlan
            driver_opts: {{parent: out0}}
            ipam: {{config: [{{subnet: 198.51.100.0/24, ip_range: 198.51.100.128/25}}]}}
        """,
        files=FILES,
    )
    parent = next(line.split()[1].partition("@")[0].rstrip(":") for line in
                  machine.run("ip", "-o", "link").splitlines() if "lo:" not in line)  # fmt: skip
    stack.rewrite((stack.folder / "compose.yaml").read_text().replace("out0", parent))
    done = stack("up", "-d")
    assert done.returncode == 0, done.stderr
    assert "services.web.ports: are discarded on networks of the driver macvlan" in done.stderr
    assert stack.ok("port", "web").strip() == ""
    with machine.open() as free:
        free.bind(("0.0.0.0", 8080))


def test_driver_opts_of_a_service(site: Host, machine: Machine) -> None:
    """Docker's two of an endpoint act; another one is named."""
    text = f"""
        services:
          web:{SERVER}
            networks:
              default:
                driver_opts:
                  com.docker.network.endpoint.ifname: wan
                  com.docker.network.endpoint.sysctls: "net.ipv4.conf.IFNAME.log_martians=1,\
                    net.ipv4.neigh.IFNAME.retrans_time_ms=5000"
                  com.example.colour: red
        networks:
          default: {{driver_opts: {{com.example.shape: round}}}}
        """
    stack = site.stack(text, files=FILES)
    told = stack("up", "-d").stderr
    assert "service web: the option com.example.colour has no effect on default" in told
    assert "network default: the option com.example.shape means nothing to bridge" in told
    seen = look(stack, "web")
    assert set(seen["links"]) == {"lo", "wan"}
    for name, value in (("conf/wan/log_martians", "1"), ("neigh/wan/retrans_time_ms", "5000")):
        assert stack.ok("exec", "-T", "web", "cat", f"/proc/sys/net/ipv4/{name}").strip() == value
    stack.ok("down")
    stack.rewrite(text.replace("log_martians=1", "no_such=1"))
    assert "this kernel has no setting net/ipv4/conf/wan/no_such" in stack("up", "-d").stderr
    stack.rewrite(text.replace("net.ipv4.conf.IFNAME.log_martians=1", "kernel.panic=1"))
    assert "'kernel.panic=1' is no" in stack("up", "-d").stderr


def test_ipv6(site: Host, machine: Machine) -> None:
    """Addresses, names, and published ports without translation of versions; IPv6 alone works too."""
    machine.neighbour()
    other = machine.neighbour("2001:db8::1/64", "2001:db8::2/64")
    stack = site.stack(
        f"""
        services:
          web:{SERVER}
            ports: ["8080:80"]
          peer:{SERVER}
          only:{SERVER}
            networks: [six]
            environment: {{NAME: only}}
            ports: ["8081:80"]
        networks:
          default: {{enable_ipv6: true}}
          six: {{enable_ipv4: false, enable_ipv6: true}}
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    found = look(stack, "peer", "web")["names"]["web"]
    assert len(found) == 2
    for one in found:
        assert reach(stack, "peer", one)
    assert call(other, "2001:db8::1", 8080).endswith(" 2001:db8::2")
    assert call(machine, "::1", 8080)
    assert call(other, "2001:db8::1", 8081) == "only 2001:db8::2"
    assert call(machine, "127.0.0.1", 8081).startswith("only ")


def test_settings_of_bridges(site: Host, machine: Machine) -> None:
    """enable_icc, enable_ip_masquerade, host_binding_ipv4, container_iface_prefix."""
    other = machine.neighbour()
    stack = site.stack(
        f"""
        services:
          a:{SERVER}
            networks: [quiet]
            ports: ["8080:80"]
          b:{SERVER}
            networks: [quiet]
          c:{SERVER}
            networks: [bare]
        networks:
          quiet:
            driver_opts:
              com.docker.network.bridge.enable_icc: "false"
              com.docker.network.bridge.host_binding_ipv4: 127.0.0.1
              com.docker.network.container_iface_prefix: net
          bare:
            driver_opts: {{com.docker.network.bridge.enable_ip_masquerade: "false"}}
        """,
        files=FILES,
    )
    stack.ok("up", "-d")
    assert not reaches(stack, "b", "a")
    assert set(look(stack, "a")["links"]) == {"lo", "net0"}
    assert stack.ok("port", "a", "80").strip() == "127.0.0.1:8080"
    assert call(machine, "127.0.0.1", 8080)
    assert call(other, "198.51.100.1", 8080, seconds=0.3) == ""
    other.run("ip", "route", "add", "default", "via", "198.51.100.1")
    server = other.listen("0.0.0.0", 9000)
    client = stack.start("exec", "-T", "c", "python3", "-SIc",
                         "import socket; socket.create_connection(('198.51.100.2', 9000), 10)")  # fmt: skip
    accepted, peer = server.accept()
    accepted.close()
    client.communicate()
    assert peer[0] == address(stack, "c", "bare")


def test_stacks_on_one_network_know_each_other(site: Host, machine: Machine) -> None:
    """An external network has the names of all who are on it, and loses them as they go."""
    one = site.stack(
        f"""
        services:
          web:{SERVER}
            networks: {{shared: {{aliases: [front]}}}}
        networks: {{shared: {{name: "{site.mark}shared"}}}}
        """,
        "one",
        files=FILES,
    )
    two = site.stack(
        f"""
        services:
          db:{SERVER}
            networks: [shared]
            external_links: ["{one.name}-web-1:site"]
        networks: {{shared: {{name: "{site.mark}shared", external: true}}}}
        """,
        "two",
        files=FILES,
    )
    assert "external network" in two("up", "-d").stderr
    one.ok("up", "-d")
    two.ok("up", "-d")
    seen = look(two, "db", "web", "front", "site", f"{one.name}-web-1")["names"]
    assert len(seen["web"]) == 1 and set(map(tuple, seen.values())) == {tuple(seen["web"])}
    assert reach(two, "db", "front")
    assert look(one, "web", "db")["names"]["db"]
    assert reach(one, "web", "db")
    assert "is in use by" in one("down").stderr
    one.ok("up", "-d")
    two.ok("down")
    assert not look(one, "web", "db")["names"]["db"]
