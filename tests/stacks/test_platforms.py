"""Images of other machines: refused where there can be none, told by name where an emulator may run them."""

from __future__ import annotations

import io
import tarfile

import pytest

from composer.images.config import platform
from composer.images.intake import write_image
from composer.images.reference import parse
from composer.images.store import Store
from composer.paths import Paths
from tests.host import Host

pytestmark = pytest.mark.kernel
OTHER = "linux/s390x"


@pytest.mark.parametrize("wanted", [OTHER, "windows/amd64"])
def test_the_host_is_of_no_other_machine(host: Host, wanted: str) -> None:
    stack = host.stack(f"services: {{a: {{image: host, command: ['true'], platform: {wanted}}}}}")
    done = stack("up", "-d")
    assert (done.returncode, "Creating" in done.stderr) == (1, False)
    text = f"error: service a: image host is for this machine, {platform()}, and not for {wanted}"
    assert text in done.stderr
    ran = stack("run", "--rm", "a")
    assert (ran.returncode, text in ran.stderr) == (1, True)


def test_this_machine_may_be_named(host: Host) -> None:
    stack = host.stack(f"services: {{a: {{image: host, command: ['true'], platform: {platform()}}}}}")
    stack.ok("up")


def foreign_image(host: Host, name: str) -> None:
    """An image that says that it is of another machine, in the store of the test's own host."""
    store = Store(Paths(host.root / "run", host.root / "state"))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as root:
        root.addfile(tarfile.TarInfo("x"))
    archive.seek(0)
    store.import_(archive, name)
    made = store.entry(name)
    assert made is not None
    write_image(
        store, {**store.config(made), "architecture": "s390x"}, store.manifest(made)["layers"], parse(name)
    )


def test_an_image_of_another_machine_is_told_by_name(host: Host) -> None:
    foreign_image(host, "strange:1")
    stack = host.stack("services: {a: {image: 'strange:1', command: [/x]}}")
    done = stack("create")
    assert done.returncode == 0
    assert "service a: image strange:1 is for linux/s390x, which is not this machine" in done.stderr


def test_an_image_that_is_here_for_another_platform_is_not_here(host: Host) -> None:
    foreign_image(host, "strange:1")
    text = "services: {a: {image: 'strange:1', pull_policy: never, platform: %s, command: [/x]}}"
    refused = host.stack(text % platform())("create")
    assert (refused.returncode, "image strange:1 is not here" in refused.stderr) == (1, True)
    host.stack(text % OTHER).ok("create")


def test_nothing_of_another_machine_is_built(host: Host) -> None:
    stack = host.stack(f"services: {{a: {{build: {{dockerfile_inline: FROM host}}, platform: {OTHER}}}}}")
    done = stack("build")
    assert done.returncode != 0
    assert f"service a: platform asks for {OTHER}, and nothing of another machine runs here" in done.stderr
