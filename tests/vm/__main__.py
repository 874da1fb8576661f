"""Run tests in virtual machines: stock Debian kernels, nothing but cgroup v2, this machine's programs.

    python -m tests.vm [--kernel 6.1] [--kernel 6.12] [pytest's arguments …]

Needs qemu-system-x86, busybox-static, e2fsprogs, mmdebstrap, apt and debian-archive-keyring (Debian or
Ubuntu), and root once, to make the machines' disk. Without arguments the tests of `selection` run, on all
kernels side by side. Kernels and disk are made once, in ~/.cache/composer-vm, where the logs are kept, too.
What a machine writes to its disks is forgotten with it.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import tempfile
import threading
from pathlib import Path

from tests.vm import image, kernels
from tests.vm.machine import HERE, Machine
from tests.vm.summary import Summary

PYTEST = [
    *("python3", "-m", "pytest", "-q", "--color=no", "--tb=short", "-p", "no:cacheprovider"),
    *("-p", "tests.vm.report", "-m", "kernel", "--timeout=300", "--reruns=1"),
]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm", description="Run tests on stock kernels with pure cgroup v2."
    )
    parser.add_argument("--kernel", action="append", choices=[*kernels.KERNELS], help="may be repeated; all")
    parser.add_argument("--memory", default="2G", help="of each machine")
    parser.add_argument("--cpus", default="1", help="of each machine")
    parser.add_argument(
        "--kvm", action="store_true", help="use /dev/kvm; not every one can boot these kernels"
    )
    parser.add_argument("--timeout", type=float, default=5400, help="seconds for each kernel")
    parser.add_argument("--shell", help="run this command instead of tests; its output is in the log")
    options, arguments = parser.parse_known_args()
    command = options.shell or shlex.join([*PYTEST, *(arguments or selection())])
    accelerator = "kvm" if options.kvm else "tcg,thread=multi"
    host = ["-m", options.memory, "-smp", options.cpus, "-accel", accelerator]
    chosen = options.kernel or [*kernels.KERNELS]
    for kernel in kernels.KERNELS:
        kernels.fetch(kernel)
    base = image.system([*kernels.KERNELS])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as machines:
        disks = [base, image.tree(Path(work))]
        summaries, threads = [], []
        for kernel in chosen:
            machine = machines.enter_context(Machine(kernel, command, Path(work), disks, host))
            summaries.append(Summary(kernel, machine.log))
            listener = threading.Thread(target=listen, args=(machine, summaries[-1], options.timeout))
            listener.start()
            threads.append(listener)
        for listener in threads:
            listener.join()
    for summary in summaries:
        print(summary)
    return max(summary.status for summary in summaries)


def listen(machine: Machine, summary: Summary, timeout: float) -> None:
    for line in machine.lines(timeout):
        summary.hear(line)


def selection() -> list[str]:
    """The lines of `selection`; what follows a # is for people."""
    lines = (line.partition("#")[0].strip() for line in (HERE / "selection").read_text().splitlines())
    return [line for line in lines if line]


if __name__ == "__main__":
    sys.exit(main())
