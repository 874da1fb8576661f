"""A stack beside a Docker Engine that really runs, on one machine; skipped where none can be run."""

from __future__ import annotations

import pytest

from benchmarks.engine import engine
from tests.host import Host
from tests.network.conftest import Host as Machine
from tests.stacks.site import SERVE, SERVER, address, call, reaches

pytestmark = pytest.mark.kernel


TEXT = f"""
        services:
          web:{SERVER}
            environment: {{NAME: web}}
            ports: ["8080:80"]
          peer:{SERVER}
        """


def rules(machine: Machine) -> list[str]:
    saved = machine.run("iptables-save").splitlines()
    return [line.partition(" [")[0] for line in saved if not line.startswith("#")]


def test_both_work_and_stay_apart(machine: Machine, site: Host) -> None:
    other = machine.neighbour()
    with engine() as docker:
        if docker is None:
            pytest.skip("no Docker Engine here")
        docker.container("-p", "8090:80")
        theirs = docker.run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", docker.run("ps", "-lq"))
        before = rules(machine)
        stack = site.stack(TEXT, files={"serve.py": SERVE})
        stack.ok("up", "-d")
        assert not address(stack, "web").startswith(theirs.rpartition(".")[0])
        assert call(other, "198.51.100.1", 8080) == "web 198.51.100.2"
        assert call(machine, "127.0.0.1", 8080).startswith("web ")
        assert reaches(stack, "peer", "web")
        with other.listen("0.0.0.0", 81) as server:
            client = stack.start(
                "exec", "-T", "web", "python3", "-SIc",
                "import socket; socket.create_connection(('198.51.100.2', 81), 10)",
            )  # fmt: skip
            accepted, peer = server.accept()
            accepted.close()
            client.communicate()
            assert peer[0] == "198.51.100.1"
        assert not reaches(stack, "web", theirs)
        stack.rewrite(TEXT.replace("8080:80", "8090:80"))
        assert "port 8090 of this host is taken by docker-proxy" in stack("up", "-d").stderr
        stack.ok("down")
        assert rules(machine) == before
    machine.run("ip", "link", "delete", "docker0")
    machine.run("nft", "flush", "ruleset")
