"""The pytest plugin, on real stacks, by pytest's own means."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host import Host

ROOT = Path(__file__).parents[2]
pytest_plugins = ["pytester"]
pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]

STACK = """
services:
  web:
    image: host
    init: true
    container_name: always-the-same
    command: [python3, -u, -m, http.server, "80"]
    ports: ["8765:80"]
    volumes: [data:/data]
    healthcheck:
      test: [CMD, python3, -c, "import socket; socket.create_connection(('127.0.0.1', 80))"]
      start_period: 60s
      start_interval: 50ms
volumes:
  data: {name: always-the-same}
"""


@pytest.fixture
def project(here: Host, pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a stack file, named after this test's mark."""
    pytester.makefile(".yaml", compose=f"name: {here.mark}{STACK}")
    return pytester


def left(host: Host) -> list[str]:
    """Stacks and volumes that are still there."""
    found = [path.name for path in (host.root / "run/stacks").glob("*")]
    found += [path.name for path in (host.root / "state/stacks").glob("*")]
    return found + [path.name for path in (host.root / "state/volumes").glob("*") if path.name != ".lock"]


def test_a_stack_is_up_for_its_test_and_gone_afterwards(here: Host, project: pytest.Pytester) -> None:
    project.makepyfile("""
        from urllib.request import urlopen

        seen = []

        def test_one(stack):
            assert urlopen(stack["web"].url(80)).status == 200
            stack["web"].exec("touch", "/data/mine", check=True)
            seen.append(stack.name)

        def test_two(stack):
            assert stack.name not in seen
            assert stack["web"].exec("ls", "/data").stdout == ""
            assert stack["web"].port(80) != 8765
    """)
    project.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)
    assert left(here) == []


def test_a_stack_is_shared_within_its_scope_and_reset(here: Host, project: pytest.Pytester) -> None:
    project.makeini("[pytest]\ncomposer_scope = session\n")
    project.makepyfile(
        test_one="""
        import pytest

        def test_first(stack, request):
            stack["web"].exec("touch", "/data/seen", check=True)
            request.config.seen = stack.name

        def test_second(stack, request):
            assert stack.name == request.config.seen
            assert stack["web"].exec("ls", "/data").stdout == "seen\\n"
        """,
        test_two="""
        import pytest

        pytestmark = pytest.mark.composer("compose.yaml", scope="module", reset=True)

        def test_other_arguments_are_another_stack(stack, request):
            assert stack.name != request.config.seen
            stack["web"].exec("touch", "/data/seen", check=True)
            request.config.module = stack.name

        def test_is_as_it_was_before_any_test(stack, request):
            assert stack.name == request.config.module
            assert stack["web"].exec("ls", "/data").stdout == ""
        """,
    )
    project.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=4)
    assert left(here) == []


def test_text_factories_and_fixtures_of_ones_own(here: Host, project: pytest.Pytester) -> None:
    project.makeconftest("""
        from composer.testing import stack_fixture
        shop = stack_fixture("compose.yaml", scope="module")
    """)
    project.makepyfile("""
        import pytest

        @pytest.mark.composer(yaml='''
            services:
              one: {image: host, init: true, command: [sleep, inf], volumes: ["./:/here"]}
        ''')
        def test_text(stack):
            assert "compose.yaml" in stack["one"].exec("ls", "/here").stdout

        def test_factory(composer_stack):
            one, two = composer_stack("compose.yaml"), composer_stack("compose.yaml")
            assert one["web"].address != two["web"].address

        def test_own_fixture(shop):
            assert shop["web"].health == "healthy"
    """)
    project.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)
    assert left(here) == []


def test_a_failure_tells_how_the_stack_is(here: Host, project: pytest.Pytester) -> None:
    project.makepyfile("""
        import pytest

        def test_fails(stack):
            stack["web"].wait_for_log("Serving")
            stack["web"].kill()
            assert 0

        @pytest.mark.composer(yaml="services: {bad: {image: host, command: [sh, -c, 'echo no way; exit 3'], "
                                   "healthcheck: {test: 'false', interval: 60s}}}")
        def test_never_begins(stack):
            pass

        def test_container():
            from composer.testing import Container
            with Container("host").with_command("sh -c 'echo single; exec sleep inf'") as one:
                one.service.wait_for_log("single")
                assert one is None

        @pytest.mark.composer(yaml="services: {bad: {imag: host}}")
        def test_is_wrong(stack):
            pass
    """)
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=2, errors=2)
    out = result.stdout.str()
    assert re.search(rf"-- stack {here.mark}-\w+ -", out)
    assert re.search(r"web-1: exited \(137\): ended by SIGKILL.*\n    Serving HTTP on", out)
    assert re.search(r"bad-1: exited \(3\)\n    no way", out)
    assert re.search(r"<stdin>:1:18: services.bad.imag: is not a known key\n +did you mean `image`", out)
    assert "composer/testing/stacks.py" not in out  # what is wrong, and none of our frames
    assert "During handling" not in out
    assert left(here) == []


def test_nothing_is_left_when_pytest_is_killed(here: Host, project: pytest.Pytester) -> None:
    """With a signal that nobody can handle."""
    project.makepyfile("""
        import os, signal

        def test_it(stack):
            print("\\nSTACK", stack.name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    result = project.runpytest_subprocess("-s", "-p", "no:cacheprovider")
    assert result.ret == -9
    name = re.search(r"STACK (\S+)", result.stdout.str())
    assert name is not None
    supervisor = subprocess.Popen(
        [sys.executable, "-c", GONE, name[1]], env={**os.environ, **here.environment}, cwd=ROOT
    )
    assert supervisor.wait(30) == 0
    assert left(here) == []


GONE = """
import sys
from pathlib import Path
from composer.api.client import Supervisor
from composer.paths import Paths
supervisor = Supervisor.connect(Paths.here().stack(sys.argv[1]))
if supervisor is not None:
    from composer.api.events import EventStream
    for _ in EventStream(supervisor): pass
"""


def test_ten_workers_have_a_copy_each(here: Host, project: pytest.Pytester) -> None:
    """The same file, with fixed names and ports, ten times at once."""
    project.makepyfile("""
        import pathlib
        import time
        from urllib.request import urlopen
        import pytest

        @pytest.mark.parametrize("number", range(10))
        def test_alone(stack, number, tmp_path_factory):
            web, meeting = stack["web"], tmp_path_factory.getbasetemp().parent / "meeting"
            web.exec("sh", "-c", f"echo {number} > /data/file", check=True)
            meeting.mkdir(exist_ok=True)
            (meeting / str(number)).write_text(f"{stack.name} {web.address} {web.port(80)}")
            until = time.monotonic() + 60
            while len(list(meeting.iterdir())) < 10:
                assert time.monotonic() < until, "they are not up at the same time"
                time.sleep(0.05)
            assert web.exec("cat", "/data/file").stdout == f"{number}\\n"
            assert urlopen(web.url(80)).status == 200
            rows = zip(*(path.read_text().split() for path in meeting.iterdir()), strict=True)
            assert [len(set(row)) for row in rows] == [10, 10, 10]
    """)
    project.runpytest_subprocess("-n", "10", "-p", "no:cacheprovider").assert_outcomes(passed=10)
    assert left(here) == []


def test_fixtures_of_pytest_docker(here: Host, project: pytest.Pytester) -> None:
    project.makeconftest("""
        import pytest
        pytest_plugins = ["composer.testing.docker"]

        @pytest.fixture(scope="session")
        def docker_compose_file(pytestconfig):
            return str(pytestconfig.rootpath / "compose.yaml")
    """)
    project.makepyfile("""
        from urllib.request import urlopen

        def test_it(docker_ip, docker_services):
            url = f"http://{docker_ip}:{docker_services.port_for('web', 80)}"
            docker_services.wait_until_responsive(lambda: urlopen(url).status == 200, timeout=30, pause=0.1)
    """)
    project.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert left(here) == []


def test_a_run_without_stacks_loads_nothing_of_ours(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.partition(".")[0] == "composer"}
            assert ours == {"composer", "composer.testing", "composer.testing.plugin"}
    """)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
