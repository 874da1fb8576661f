"""A stack file with this host's PostgreSQL, which makes its cluster at its first start."""

from __future__ import annotations

from pathlib import Path

_INSTALLED = Path("/usr/lib/postgresql")
PROGRAMS = max(_INSTALLED.iterdir()) / "bin" if _INSTALLED.is_dir() else None
"""Where they are, of the newest version; None where PostgreSQL is not installed."""


def stack_file(*, sync: bool = True) -> str:
    """One service `db` on the volume `data`; `psql -h /tmp -U postgres` reaches it from inside."""
    return f"""
services:
  db:
    image: host
    user: postgres
    stop_signal: SIGINT
    command:
      - sh
      - -c
      - |
        test -s /data/pg/PG_VERSION || {PROGRAMS}/initdb -D /data/pg -A trust -N > /data/log
        exec {PROGRAMS}/postgres -D /data/pg -k /tmp{"" if sync else " -c fsync=off"}
    volumes: [data:/data]
    healthcheck:
      test: [CMD, {PROGRAMS}/pg_isready, -h, /tmp, -q]
      start_interval: 20ms
      start_period: 60s
volumes:
  data: {{}}
"""
