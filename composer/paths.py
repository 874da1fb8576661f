"""Every name under the run and the state directory, in one place. A leaf; touches no disk.

What a reboot clears lives under `run`, what must last under `state`. Nobody else joins such paths.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from composer.value import Value


class StackPaths(Value):
    """The places of one stack."""

    run: Path
    state: Path

    @property
    def keeper_socket(self) -> Path:
        return self.run / "keeper.sock"

    @property
    def api_socket(self) -> Path:
        return self.run / "api.sock"

    @property
    def life(self) -> Path:
        """Locked (flock) by the keeper for as long as it lives."""
        return self.run / "life"

    @property
    def record(self) -> Path:
        return self.state / "record.json"

    @property
    def diagnostics(self) -> Path:
        """What the keeper and the supervisor print, for `doctor`."""
        return self.run / "supervisor.log"

    @property
    def switching(self) -> Path:
        """What a snapshot is being made of, or gone back to, right now."""
        return self.state / "switching.json"

    @property
    def faults(self) -> Path:
        """The faults that are injected now."""
        return self.run / "faults.json"

    def container_run(self, container: str) -> Path:
        """The bundle of one container: config.json, rootfs/, hosts, hostname, resolv.conf."""
        return self.run / "containers" / container

    @property
    def desired(self) -> Path:
        return self.state / "desired.json"

    @property
    def slots(self) -> Path:
        return self.state / "slots.json"

    @property
    def events(self) -> Path:
        return self.state / "events.jsonl"

    def container_state(self, container: str) -> Path:
        """The writable layer of one container: upper/ and work/."""
        return self.state / "containers" / container

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    def log(self, container: str) -> Path:
        return self.logs / f"{container}.log"


class Paths(Value):
    """The two roots and everything host-wide below them."""

    run: Path
    state: Path

    @classmethod
    def of(cls, environ: Mapping[str, str], uid: int) -> Paths:
        """COMPOSER_RUN_DIR and COMPOSER_STATE_DIR win; root uses /run and /var/lib; others follow XDG."""
        run, state = environ.get("COMPOSER_RUN_DIR"), environ.get("COMPOSER_STATE_DIR")
        if uid == 0:
            run_default, state_default = Path("/run/composer"), Path("/var/lib/composer")
        else:
            home = Path(environ.get("HOME") or "/")
            run_default = Path(environ.get("XDG_RUNTIME_DIR") or f"/tmp/composer-{uid}") / "composer"
            state_default = Path(environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "composer"
        return cls(Path(run) if run else run_default, Path(state) if state else state_default)

    @classmethod
    def here(cls) -> Paths:
        """The roots for this process's environment and user."""
        return cls.of(os.environ, os.geteuid())

    def stack(self, name: str) -> StackPaths:
        return StackPaths(self.run / "stacks" / name, self.state / "stacks" / name)

    @property
    def stacks_run(self) -> Path:
        return self.run / "stacks"

    @property
    def stacks_state(self) -> Path:
        return self.state / "stacks"

    @property
    def volumes(self) -> Path:
        return self.state / "volumes"

    @property
    def snapshots(self) -> Path:
        return self.state / "snapshots"

    @property
    def networks(self) -> Path:
        return self.state / "networks"

    @property
    def images(self) -> Path:
        return self.state / "images"

    @property
    def cache(self) -> Path:
        return self.state / "cache"

    @property
    def host_lock(self) -> Path:
        """Guards what stacks share: address pools, network names, reserved ports."""
        return self.state / "host.lock"
