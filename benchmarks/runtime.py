"""Create-to-exec and exec of the runtime, beside runc where that is installed; needs root.

Ours is measured in a warm process of the keeper's kind (no site, nothing but the runtime imported) and as a
command; runc only comes as a command. Each number is the median of interleaved rounds, in milliseconds.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if not sys.flags.isolated:
    os.execv(sys.executable, [sys.executable, "-I", "-S", os.path.abspath(__file__), *sys.argv[1:]])
sys.path.insert(0, ROOT)

from composer.runtime import cgroup, describe  # noqa: E402
from composer.runtime.create import Overlay, Pending, Stages, Stdio, create  # noqa: E402
from composer.runtime.enter import enter  # noqa: E402

ROUNDS, TOGETHER = 15, 50
NOWHERE = Stdio(-1, -1, -1)
MAP = [{"containerID": 0, "hostID": 300_000, "size": 65536}]


class Bench:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.layer = f"{directory}/rootfs"
        self.count = 0
        self.stages = Stages(2)
        for name in ("bin", "proc", "dev", "sys", "etc", "tmp"):
            os.makedirs(f"{self.layer}/{name}")
        shutil.copy("/bin/busybox", f"{self.layer}/bin/busybox")
        for name in ("true", "sleep"):
            os.symlink("busybox", f"{self.layer}/bin/{name}")

    def spec(self, *args: str, **linux: Any) -> dict[str, Any]:
        self.count += 1
        spec = describe.default_spec()
        spec["process"] |= {"args": list(args), "terminal": False}
        spec["root"]["readonly"] = False
        spec["linux"] |= {"cgroupsPath": f"/composer-bench-{os.getpid()}-{self.count}", **linux}
        return spec

    def mapped(self, *args: str) -> dict[str, Any]:
        spec = self.spec(*args, uidMappings=MAP, gidMappings=MAP)
        spec["linux"]["namespaces"].append({"type": "user"})
        return spec

    def begin(self, spec: dict[str, Any]) -> Pending:
        place = f"{self.directory}/{self.count}"
        for name in ("upper", "work"):
            os.makedirs(f"{place}/{name}")
        overlay = Overlay((self.layer,), f"{place}/upper", f"{place}/work")
        return create(
            spec, self.directory, NOWHERE, overlay=overlay, network_sockets=True, stages=self.stages
        )

    def config(self, spec: dict[str, Any]) -> None:
        """A bundle for commands: the same root, but bound instead of layered, as runc has no overlay."""
        with open(f"{self.directory}/config.json", "w") as file:
            json.dump(spec, file)


def finish(pending: Pending, spec: dict[str, Any] | None = None) -> None:
    os.waitid(os.P_PIDFD, pending.pidfd, os.WEXITED)
    pending.close()
    for descriptor in (pending.pidfd, *pending.sockets.values()):
        os.close(descriptor)
    if spec:
        cgroup.open(spec["linux"]["cgroupsPath"]).remove()


def one(bench: Bench, spec: dict[str, Any]) -> float:
    """From nothing to the program's first instruction."""
    begin = time.perf_counter()
    pending = bench.begin(spec)
    pending.until("created")
    pending.start()
    pending.until("running")
    took = time.perf_counter() - begin
    finish(pending, spec)
    return took


def spent() -> float:
    """CPU time of this process and of those it waited for: other work on the machine matters less to it."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def many(bench: Bench) -> float:
    specs = [bench.spec("true") for _ in range(TOGETHER)]
    begin = time.perf_counter()
    poll, pendings = select.poll(), {}
    for spec in specs:
        bench.count += 1
        pending = bench.begin(spec)
        pendings[pending.channel.fileno()] = pending
        poll.register(pending.channel, select.POLLIN)
    left = TOGETHER
    while left:
        for descriptor, _ in poll.poll():
            pending = pendings[descriptor]
            pending.advance()
            if pending.error:
                raise pending.error
            if pending.state == "created":
                pending.start()
            elif pending.state == "running":
                poll.unregister(descriptor)
                left -= 1
    took = time.perf_counter() - begin
    for pending, spec in zip(pendings.values(), specs, strict=True):
        finish(pending, spec)
    return took


def join(bench: Bench, container: Pending, spec: dict[str, Any]) -> float:
    begin = time.perf_counter()
    process = spec["process"] | {"args": ["true"]}
    pending = enter(container.pidfd, container.pid, process, NOWHERE, spec=spec)
    pending.until("running")
    took = time.perf_counter() - begin
    finish(pending)
    return took


def command(*words: str) -> float:
    begin = time.perf_counter()
    pid = os.posix_spawnp(words[0], words, os.environ)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"{' '.join(words)} failed")
    return time.perf_counter() - begin


def commands(bench: Bench, found: dict[str, list[float]]) -> None:
    """`run` and `exec` as commands, ours and runc's, one after the other in every round."""
    ours = [
        *(sys.executable, "-I", "-S", "-c"),
        f"import sys; sys.path.insert(0, {ROOT!r}); from composer.runtime.cli import main; main()",
        *("--root", f"{bench.directory}/state"),
    ]
    tools = {"ours": ours}
    if shutil.which("runc"):
        tools["runc"] = ["runc", "--root", f"{bench.directory}/runc"]
    os.chdir(bench.directory)
    for name, tool in tools.items():
        bench.config(bench.spec("sleep", "1000"))
        command(*tool, "run", "-d", f"b{os.getpid()}{name}")
    for _ in range(ROUNDS):
        for name, tool in tools.items():
            bench.config(bench.spec("true"))
            found.setdefault(f"command run, {name}", []).append(
                command(*tool, "run", f"t{os.getpid()}{name}")
            )
            held = f"b{os.getpid()}{name}"
            found.setdefault(f"command exec, {name}", []).append(command(*tool, "exec", held, "true"))
    for name, tool in tools.items():
        command(*tool, "delete", "-f", f"b{os.getpid()}{name}")


def main() -> None:
    directory = tempfile.mkdtemp(prefix="composer-bench-")
    found: dict[str, list[float]] = {}
    try:
        bench = Bench(directory)
        gc.collect()
        gc.freeze()
        held = bench.spec("sleep", "1000")
        container = bench.begin(held)
        container.until("created")
        container.start()
        container.until("running")
        for _ in range(ROUNDS):
            for name, spec in (("create to exec", bench.spec), ("with a user namespace", bench.mapped)):
                before = spent()
                found.setdefault(name, []).append(one(bench, spec("true")))
                found.setdefault(f"{name}, CPU", []).append(spent() - before)
            found.setdefault("exec", []).append(join(bench, container, held))
        for _ in range(3):
            found.setdefault(f"{TOGETHER} together", []).append(many(bench))
        commands(bench, found)
        os.kill(container.pid, 9)
        finish(container, held)
    finally:
        os.chdir("/")
        shutil.rmtree(directory)
    for name, times in found.items():
        print(f"{name:32} {statistics.median(times) * 1e3:8.1f} ms   (best {min(times) * 1e3:.1f})")


if __name__ == "__main__":
    main()
