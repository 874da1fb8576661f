"""Single containers, with the names of testcontainers."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

import pytest

from composer.errors import ComposerError, LateError, UsageError
from composer.testing import (
    CompositeWaitStrategy,
    Container,
    DockerCompose,
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    Network,
    PortWaitStrategy,
    wait_container_is_ready,
    wait_for_logs,
)
from composer.testing.container import home
from tests.host import Host

pytestmark = pytest.mark.kernel


def server() -> Container:
    served = Container("host", command="python3 -u -m http.server 80").with_exposed_ports(80)
    return served.with_kwargs(init=True)


def sleeper() -> Container:
    return Container("host").with_command(["sleep", "inf"]).with_kwargs(init=True)


def status(container: Container) -> int:
    url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(80)}"
    with urllib.request.urlopen(url) as answer:
        return int(answer.status)


def nothing_is_left(host: Host) -> bool:
    """Nor on the network that those without one share, which stays for the next of them."""
    shared = home(os.getpid())
    assert not shared.services and not shared.stack.containers()
    shared.remove()
    volumes = {path.name for path in (host.root / "state/volumes").glob("*")}
    return not list((host.root / "run/stacks").glob("*")) and volumes <= {".lock"}


def test_a_container_is_ready_and_then_gone(here: Host) -> None:
    strategy = CompositeWaitStrategy(
        PortWaitStrategy(80),
        HttpWaitStrategy(80).for_response_predicate(lambda text: "<ul>" in text),
        LogMessageWaitStrategy("Serving"),
        ExecWaitStrategy(["true"]),
    )
    with (
        server().waiting_for(strategy).with_env("PRICE", "$5").with_volume_mapping("data", "/d", "rw") as one
    ):
        assert status(one) == 200
        assert one.exec(["sh", "-c", "echo $PRICE"]) == (0, b"$5\n")
        assert one.exec("touch /d/file").exit_code == 0
        assert wait_for_logs(one, "GET / ") < 60
        out, err = one.get_logs()
        assert out.startswith(b"Serving") and b"GET" in err
        assert one.status == "running"
        with pytest.raises(UsageError, match="is started already"):
            one.start()
    assert nothing_is_left(here)
    with pytest.raises(ComposerError, match="is not started"):
        one.get_exposed_port(80)


def test_containers_on_a_network_find_each_other(here: Host, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("text")
    ask = ["python3", "-c", "import urllib.request as u; print(u.urlopen('http://www').status)"]
    with Network(internal=True) as net:
        web = server().with_name("web").with_network(net).with_network_aliases("www")
        client = sleeper().with_name("client").with_network(net)
        client.with_copy_into_container(tmp_path / "given", "/tmp/there")
        with web.waiting_for(PortWaitStrategy(80)), client:
            assert client.exec(ask) == (0, b"200\n")
            assert client.exec("cat /tmp/there").output == b"text"
            web.stop()
            assert client.exec("getent hosts www").exit_code == 2
            assert client.status == "running"
    assert nothing_is_left(here)


def test_health_is_waited_for(here: Host) -> None:
    check = ("python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 80))")
    with server().with_healthcheck(*check).waiting_for(HealthcheckWaitStrategy()) as one:
        assert one.service.health == "healthy"
    with pytest.raises(ComposerError, match="has no healthcheck"):
        sleeper().waiting_for(HealthcheckWaitStrategy()).start()
    assert nothing_is_left(here)


def test_what_never_becomes_ready_says_why_and_is_gone(here: Host) -> None:
    ends = Container("host", command="sh -c 'echo bye; exit 4'")
    with pytest.raises(ComposerError, match=r"exited \(4\)"):
        ends.waiting_for(LogMessageWaitStrategy("never")).start()
    answers = HttpWaitStrategy(80).for_status_code(418).with_startup_timeout(0.5)
    with pytest.raises(LateError, match="answer to GET / at port 80 did not come within 0"):
        server().waiting_for(answers).start()
    assert nothing_is_left(here)


def test_a_decorated_call_is_tried_again() -> None:
    calls = []

    @wait_container_is_ready(ValueError, pause=0)
    def connect() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError
        return len(calls)

    assert connect() == 3


def test_a_stack_in_the_terms_of_testcontainers(here: Host) -> None:
    (here.root / "docker-compose.yml").write_text(
        "services: {web: {image: host, init: true, ports: ['80'], "
        "command: [sh, -c, 'echo out; echo err >&2; exec sleep inf']}}"
    )
    with DockerCompose(here.root) as compose:
        assert compose.get_service_host("web", 80) == "127.0.0.1"
        assert compose.get_service_port("web", 80) > 0
        assert compose.exec_in_container(["sh", "-c", "echo hi; exit 2"], "web") == ("hi\n", "", 2)
        compose.service("web").wait_for_log("err")
        compose.service("web").wait_for_log("out")
        assert compose.get_logs() == ("out\n", "err\n")
        assert [one.state for one in compose.get_containers()] == ["running"]
    assert nothing_is_left(here)
