"""How long a PostgreSQL of 200 MB takes to be as it was: by `restore`, and by `down -v`, `up` and seeding.

    python -m benchmarks.snapshots [--rounds 5]

Needs root, and PostgreSQL on this host. Both end when the database answers. Between two rounds rows are
deleted, so that there is something to go back from.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from composer import Stack
from tests.relational import stack_file

SEED = "create table t as select g as id, repeat(md5(g::text), 8) as x from generate_series(1, 700000) g"


def sql(stack: Stack, text: str) -> str:
    command = ("psql", "-h", "/tmp", "-U", "postgres", "-Atqc", text)
    return stack["db"].exec(*command, check=True).stdout.strip()


def seeded(stack: Stack) -> None:
    stack.up()
    sql(stack, SEED)


def timed(work: Callable[[], None]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="snapbench") as folder:
        os.environ["COMPOSER_RUN_DIR"], os.environ["COMPOSER_STATE_DIR"] = f"{folder}/run", f"{folder}/state"
        Path(folder).chmod(0o755)
        stack = Stack(yaml=stack_file(), name="snapbench")

        def anew() -> None:
            stack.down(volumes=True)
            prepare(stack)
            seeded(stack)

        try:
            first = timed(anew)
            size = sql(stack, "select pg_size_pretty(pg_database_size('postgres'))")
            created = timed(lambda: stack.snapshot("seeded"))
            back = []
            for _ in range(rounds):
                sql(stack, "delete from t where id % 1000 = 0")
                back.append(timed(lambda: stack.restore("seeded")))
                assert sql(stack, "select count(*) from t") == "700000"
            again = timed(anew)
        finally:
            stack.down(volumes=True)
    print(f"{size}, load average {os.getloadavg()[0]:.1f}, seconds")
    print(f"  snapshot                     {created:.2f}")
    print(f"  restore, median of {rounds:<2}        {statistics.median(back):.2f}, least {min(back):.2f}")
    print(f"  down -v, up and seed         {first:.2f}, {again:.2f}")


def prepare(stack: Stack) -> None:
    """The volume belongs to the user of the database."""
    from pwd import getpwnam

    from composer.model.stack import Volume
    from composer.volumes.store import VolumeStore

    store = VolumeStore(stack.context.paths)
    store.ensure(Volume("data", "snapbench_data"), stack.name)
    user = getpwnam("postgres")
    os.chown(store.folder("snapbench_data") / "_data", user.pw_uid, user.pw_gid)


if __name__ == "__main__":
    main()
