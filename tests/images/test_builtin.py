"""The images `host` and `scratch`, seen from inside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from composer.images.builtin import builtin
from composer.images.image import Image
from composer.paths import Paths

pytestmark = pytest.mark.kernel

# Stacks the overlays of an image, enters, and runs the command line given after the targets and lowers.
ENTER = """
set -e
root=$1; shift
mount -t tmpfs none "$root"
mkdir "$root/upper" "$root/root"
number=0
while [ "$1" != -- ]; do
    number=$((number + 1)); mkdir "$root/upper/$number" "$root/upper/$number/u" "$root/upper/$number/w"
    mount -t overlay none "$root/root$1" -o \
        "lowerdir=$2,upperdir=$root/upper/$number/u,workdir=$root/upper/$number/w"
    shift 2
done
shift
exec chroot "$root/root" "$@"
"""


def inside(image: Image, tmp_path: Path, *command: str) -> str:
    """What `command` prints in the image, in a mount namespace that ends with it."""
    overlays = [text for part in image.root for text in (part.target, ":".join(part.lowers))]
    where = tmp_path / "enter"
    where.mkdir(exist_ok=True)
    script = ["unshare", "-m", "sh", "-c", ENTER, "sh", str(where), *overlays, "--", *command]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def host(paths: Paths) -> Image:
    image = builtin("host", paths)
    assert image is not None
    return image


def test_programs_of_the_host_run(host: Image, tmp_path: Path) -> None:
    assert inside(host, tmp_path, "/bin/sh", "-c", "echo fine; ls -d /usr/bin") == "fine\n/usr/bin\n"


def test_usr_is_writable_on_top_and_the_hosts_own_stays(host: Image, tmp_path: Path) -> None:
    assert (
        inside(host, tmp_path, "/bin/sh", "-c", "echo x >/usr/composer-test; cat /usr/composer-test") == "x\n"
    )
    assert not Path("/usr/composer-test").exists()


def test_names_of_system_accounts_resolve(host: Image, tmp_path: Path) -> None:
    assert inside(host, tmp_path, "stat", "-c", "%U:%G", "/").strip() == "root:root"


def test_no_person_no_secret_no_identity(host: Image, tmp_path: Path) -> None:
    script = (
        "cat /etc/machine-id /etc/hostname /etc/resolv.conf; ls -A /root /home /var/lib /run; cat /etc/passwd"
    )
    seen = inside(host, tmp_path, "/bin/sh", "-c", script)
    listing, _, accounts = seen.partition("root:x:0:0:")
    assert [line for line in listing.split() if not line.endswith(":")] == ["lock"]
    for line in Path("/etc/passwd").read_text().splitlines():
        name, _, number = line.split(":")[:3]
        if 1000 <= int(number) < 65534:
            assert f"\n{name}:" not in accounts


def test_only_what_everybody_may_read_is_taken(host: Image) -> None:
    skeleton = Path(host.root[0].lowers[0])
    for directory, _, files in os.walk(skeleton / "etc"):
        for name in files:
            taken = Path(directory, name)
            source = Path("/", taken.relative_to(skeleton))
            if not taken.is_symlink() and taken.name != "shadow" and source.exists():
                assert source.stat().st_mode & 0o004, source


def test_no_password_hash_is_taken(host: Image) -> None:
    shadow = Path(host.root[0].lowers[0], "etc/shadow").read_text()
    assert {line.split(":")[1] for line in shadow.splitlines()} == {"*"}


@pytest.mark.parametrize(
    ("path", "mode"), [("tmp", 0o1777), ("var/tmp", 0o1777), ("root", 0o700), ("proc", 0o555), ("", 0o755)]
)
def test_modes_do_not_follow_the_umask(paths: Paths, path: str, mode: int) -> None:
    before = os.umask(0o077)
    try:
        image = builtin("host", paths)
    finally:
        os.umask(before)
    assert image is not None
    assert Path(image.root[0].lowers[0], path).stat().st_mode & 0o7777 == mode


def test_every_link_of_the_skeleton_leads_somewhere_inside(host: Image, tmp_path: Path) -> None:
    """Certificates and alternatives are links; each resolves in the image if it does on the host."""
    script = (
        'cd /etc; find . -type l ! -name mtab | while read -r link; do [ -e "$link" ] || echo $link; done'
    )
    for link in inside(host, tmp_path, "/bin/sh", "-c", script).split():
        assert not Path("/etc", link).exists(), link


def test_a_second_call_makes_nothing_new(paths: Paths) -> None:
    first = builtin("host", paths)
    made = sorted((paths.images / "builtin").iterdir())
    assert builtin("host", paths) == first
    assert sorted((paths.images / "builtin").iterdir()) == made


def test_leftovers_of_a_crash_do_not_matter(paths: Paths) -> None:
    leftover = paths.images / "builtin" / "unfinished" / "etc"
    leftover.mkdir(parents=True)
    image = builtin("host", paths)
    assert image is not None
    assert not leftover.exists()


def test_scratch_is_empty(paths: Paths) -> None:
    image = builtin("scratch", paths)
    assert image is not None
    assert not any(Path(image.root[0].lowers[0]).iterdir())
    assert "Cmd" not in image.config["config"]


def test_other_names_are_not_ours(paths: Paths) -> None:
    assert builtin("busybox", paths) is None
