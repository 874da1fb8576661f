"""Gates: published ports of who sleeps are held here, and the first connection wakes it.

A gated container's published TCP ports lead nowhere; the reserving sockets listen instead. A connection waits
in such a socket, which the keeper holds, too, and is only accepted once the container can take it: nobody is
refused, and a supervisor that is killed meanwhile loses nothing. Whether somebody waits is asked of the
kernel, never remembered.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from typing import TYPE_CHECKING

import anyio

from composer.bundle import process
from composer.network.netlink import NETLINK_SOCK_DIAG, Netlink
from composer.network.ports import listening
from composer.network.streams import begin
from composer.plan import actions as act
from composer.plan.options import Options
from composer.plan.order import with_dependencies
from composer.plan.restart import next_restart
from composer.supervisor.handover import connections, text_of
from composer.supervisor.loop import Operation, internal
from composer.supervisor.outside import made_in
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core

START_LIMIT = 60.0
"""Seconds that connections wait for a program without a healthcheck to listen."""
FIRST_LOOK, LONGEST_PAUSE = 0.002, 0.1
"""Seconds between two looks whether it listens by now."""
FIRST_ANSWER = 0.03
"""Seconds before the rules are written, which holds this process up for ten milliseconds: answers go first.

A time and no event, as there may never be an answer: who connects may only want to talk, or to be
connected. Nobody waits for the rules meanwhile; an answer that is later than this is held up once, by ten
milliseconds.
"""


class Gates:
    """Works on the live containers of one core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.waking: dict[str, anyio.Event] = {}
        core.net.names.wake = self.wake

    # Going to sleep.

    async def await_connection(self, action: act.AwaitConnection) -> None:
        """Hold the ports of a container that does not run. Raises ConflictError for one that is taken."""
        net, live = self.core.net, self.core.live(action.name)
        service = self.core.containers.service_of(live)
        live.networks = net.expected(await net.places(live, net.wanted(live, service)))
        live.change(gated=True, stopped=False)
        try:
            image = self.core.images.find(live.plan.image)
            exposed = process.exposed(image.config.get("config") or {})
            live.ports = await net.ports.reserve(live, service, net.binding(live), exposed)
        except BaseException:
            live.change(gated=False)
            raise
        self.listen(live)
        self.core.net.touch()
        self.core.tell("await", live)

    async def freeze(self, action: act.FreezeContainer) -> None:
        """If somebody uses it after all, or it does not listen yet, that is noted, and it goes on."""
        live = self.core.live(action.name)
        if self.used(live) or not self.listens(live):
            live.change(used_at=time.time_ns())
            return
        live.change(gated=True)
        self.listen(live)
        self.core.changed(live)
        self.core.net.touch()
        await self.core.settle()
        if not (live.plan.gated and live.plan.state == "running"):
            return  # somebody came meanwhile, or it ended
        self.core.inside.pause(live, thaw=False)
        if self.used(live):
            await self.wake(live)

    def used(self, live: Live) -> bool:
        """Whether somebody is connected to it, or sent it anything since this was last asked."""
        before, live.heard = live.heard, heard(live.pid)
        return live.heard != before or any(map(from_elsewhere, connections(live.pid)))

    def listen(self, live: Live) -> None:
        """Hear of the next connection."""
        loop = asyncio.get_running_loop()
        for each in self.doors(live).values():
            self.core.net.ports.relay.stop(each)
            begin(each)
            loop.add_reader(each, self.ring, live)

    def doors(self, live: Live) -> dict[int, socket.socket]:
        """Its listening sockets by number, which no two have in common."""
        ports = self.core.net.ports.of(live)
        return {each.fileno(): each for held, each in ports.items() if held.protocol == "tcp"}

    def recover(self) -> None:
        """After a crash: go on where the supervisor before this one was."""
        for live in self.core.world.containers.values():
            plan = live.plan
            if not plan.gated:
                continue
            if plan.waiting and not self.core.net.ports.of(live):
                live.change(gated=False)  # what was held is lost, with its keeper
            elif plan.waiting or (plan.idle and self.core.inside.group(live).frozen):
                self.listen(live)
            else:
                self.core.tasks.start_soon(self.wake, live)

    # Waking.

    def ring(self, live: Live) -> None:
        """Somebody is at one of its ports."""
        self.hush(live)
        self.core.tasks.start_soon(self.wake, live)

    def hush(self, live: Live) -> None:
        for each in self.doors(live).values():
            asyncio.get_running_loop().remove_reader(each)

    async def wake(self, live: Live) -> None:
        """Start or thaw it with what it depends on, and open its ports once it takes connections.

        What cannot be started turns those who wait away, and is tried again with the next connection.
        """
        if live.name in self.waking:
            await self.waking[live.name].wait()
            return
        over = self.waking[live.name] = anyio.Event()
        try:
            self.hush(live)
            if not live.plan.alive:
                await self.begin(live)
            if live.plan.alive:
                served = live.plan.idle
                self.thaw(live)
                if not served:
                    await self.accepting(live)
            if live.plan.gated and live.plan.alive:
                await self.open(live)
            elif live.plan.gated and not next_restart(live.plan):
                self.turn_away(live)
                self.listen(live)
        except Exception as error:  # what is wrong with one container must not end the others
            self.core.notice(f"{live.name} cannot be woken: {internal(error)}")
            self.turn_away(live)
            self.listen(live)
        finally:
            del self.waking[live.name]
            over.set()

    async def begin(self, live: Live) -> None:
        """As `start SERVICE` does: a connection is a wish."""
        service = live.plan.slot.service
        wish = Options("start", since=time.time_ns(), services=(service,))
        operation = Operation(wish, lambda *_: None, lambda _: None)
        self.core.loop.submit(operation)
        await operation.finished.wait()
        for entry in operation.failures:
            self.core.notice(f"a connection to {service} was turned away: {entry.instance} {entry.reason}")

    def thaw(self, live: Live) -> None:
        """Let it go on, and what it depends on before it."""
        services, own = self.core.stack.services, live.plan.slot.service
        chain = with_dependencies(services, {own} & services.keys()) - {own}
        for each in self.core.world.containers.values():
            if each.plan.idle and each.plan.slot.service in chain:
                self.core.tasks.start_soon(self.wake, each)
        if live.plan.state == "paused" or self.core.inside.group(live).frozen:
            self.core.inside.pause(live, thaw=True)

    async def accepting(self, live: Live) -> None:
        """Until it is said to be healthy, or not to be; without a healthcheck until it listens."""
        while live.plan.alive and live.plan.gated and live.plan.health is not None:
            if live.plan.health.status != "starting":
                return
            await self.core.pulse()
        pause = FIRST_LOOK
        with anyio.move_on_after(START_LIMIT):
            while live.plan.alive and live.plan.gated and not self.listens(live):
                await anyio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def listens(self, live: Live) -> bool:
        """On the ports at which somebody waits; if nobody does, on any."""
        doors = self.core.net.ports.of(live)
        targets = {held.target for held in doors if held.protocol == "tcp"}
        waiting = {held.target for held, each in doors.items() if held.protocol == "tcp" and pending(each)}
        open_ones = targets & listened(live.pid)
        return waiting <= open_ones if waiting else bool(open_ones) or not targets

    async def open(self, live: Live) -> None:
        """Those who wait are carried over; the others go by the kernel's rules again."""
        self.core.net.ports.serve(live, opening=True)
        await anyio.sleep(FIRST_ANSWER)
        if not live.plan.alive:
            return
        live.change(gated=False, used_at=time.time_ns())
        live.heard = heard(live.pid)
        self.core.net.touch()
        self.core.changed(live)

    def turn_away(self, live: Live) -> None:
        """Everybody who waits."""
        for each in self.doors(live).values():
            while pending(each):
                try:
                    each.accept()[0].close()
                except OSError:  # they left, or there are no descriptors now: the next ring comes at once
                    break


def pending(listener: socket.socket) -> bool:
    """Whether somebody waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def listened(pid: int) -> set[int]:
    """Ports of a container's network on which others than itself are listened to; none once it has ended."""
    try:
        with made_in(pid, lambda: Netlink(protocol=NETLINK_SOCK_DIAG)) as diag:
            return set(listening(diag))
    except OSError:
        return set()


def from_elsewhere(row: str) -> bool:
    """Whether a row of `connections` is not from the container itself."""
    return not is_loopback(row.split()[2].rpartition(":")[0])


def is_loopback(address: str) -> bool:
    """Of an address as /proc/net/tcp and tcp6 have it: words of four octets, each in the host's order."""
    words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
    plain = b"".join(words)
    if len(plain) == 16 and plain[:12] == bytes(10) + b"\xff\xff":
        plain = plain[12:]
    return plain[:1] == b"\x7f" if len(plain) == 4 else plain == bytes(15) + b"\x01"


def heard(pid: int) -> int:
    """Packets that others sent to a container alone since it began: all of IP, but for what went over its
    loopback, and what was meant for everybody (multicast, broadcast).
    """
    own = counters(pid, "snmp")
    extra = counters(pid, "netstat")
    version6 = {words[0]: int(words[1]) for words in map(str.split, lines(pid, "snmp6")) if len(words) == 2}
    loopback = next((line.split()[2] for line in lines(pid, "dev") if line.split()[0] == "lo:"), "0")
    came = own.get("IpInReceives", 0) + version6.get("Ip6InReceives", 0) - int(loopback)
    to_all = extra.get("IpExtInMcastPkts", 0) + extra.get("IpExtInBcastPkts", 0)
    return came - to_all - version6.get("Ip6InMcastPkts", 0)


def counters(pid: int, name: str) -> dict[str, int]:
    """A file of pairs of lines: names, and their values."""
    found: dict[str, int] = {}
    told = lines(pid, name)
    for names, values in zip(told[::2], told[1::2], strict=False):
        kind, *keys = names.split()
        found |= {f"{kind[:-1]}{key}": int(v) for key, v in zip(keys, values.split()[1:], strict=False)}
    return found


def lines(pid: int, name: str) -> list[str]:
    """Nothing when it has ended."""
    return [line for line in text_of(f"/proc/{pid}/net/{name}").splitlines() if line.strip()]
