"""One virtual machine: its first files, its disk, its life.

Its console goes to a log, its second serial line is read.
"""

from __future__ import annotations

import contextlib
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.vm import kernels

HERE = Path(__file__).parent

# What finds the disks; all else is loaded when the kernel asks for it.
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")

# Without hardware virtualisation a second processor costs much in locks and interrupts. Five levels of page
# tables, guarded access to users' memory, zeroed pages and slow grace periods cost time, and nothing that is
# tested depends on them.
MACHINE = ["-nodefaults", "-no-reboot", "-display", "none", "-cpu", "max,la57=off,smap=off"]
APPEND = "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off init_on_alloc=0 rcupdate.rcu_expedited=1"
DRIVE = "format=raw,if=virtio,cache=unsafe,snapshot=on,file="
END = """\
printf '{"exit": %d}\\n' $? > /dev/ttyS1
sync
busybox poweroff -f
"""


class Machine:
    """A machine that runs one shell command. What it needs for that time is put into `directory`."""

    def __init__(
        self, kernel: str, command: str, directory: Path, disks: list[Path], host: list[str]
    ) -> None:
        self.log = kernels.CACHE / f"{kernel}.log"
        root = kernels.fetch(kernel)
        initramfs = directory / f"{kernel}.initramfs"
        initramfs.write_bytes(archive(_first_files(root, command)))
        words = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *MACHINE, *host]
        words += ["-kernel", str(root / "vmlinuz"), "-initrd", str(initramfs), "-append", APPEND]
        words += ["-serial", f"file:{self.log}", "-serial", "stdio"]
        words += [word for disk in disks for word in ("-drive", f"{DRIVE}{disk}")]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def lines(self, timeout: float) -> Iterator[str]:
        """What the command writes to /dev/ttyS1, until the machine is off or `timeout` seconds are over."""
        late = threading.Timer(timeout, self.process.kill)
        late.start()
        assert self.process.stdout is not None
        with contextlib.closing(self.process.stdout) as stdout:
            yield from (line.rstrip() for line in stdout)
        self.process.wait()
        late.cancel()
        if self.process.returncode < 0:
            yield f"the machine was killed; its limit is {timeout:.0f} s"


def _first_files(root: Path, command: str) -> dict[str, bytes]:
    loaded = kernels.needed(root, MODULES)
    busybox = kernels.busybox().read_bytes()
    return {
        "bin/busybox": busybox,
        "bin/sh": busybox,
        "init": (HERE / "init").read_bytes(),
        "second": (HERE / "second").read_bytes() + f"{command}\n{END}".encode(),
        "modules/order": "".join(f"{name}\n" for name in loaded).encode(),
        **{f"modules/{name}": content for name, content in loaded.items()},
    }


def archive(files: dict[str, bytes]) -> bytes:
    """A cpio archive in the `newc` format: docs.kernel.org/driver-api/early-userspace/buffer-format.html."""
    folders = dict.fromkeys(
        str(parent) for name in files for parent in Path(name).parents if parent != Path(".")
    )
    members = [*((name, stat.S_IFDIR | 0o755, b"") for name in sorted(folders))]
    members += [(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    parts = [_member(place, *member) for place, member in enumerate([*members, ("TRAILER!!!", 0, b"")], 1)]
    return b"".join(parts)


def _member(inode: int, name: str, mode: int, content: bytes) -> bytes:
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)
