"""Run the suite and write docs/runtime-conformance.md.

    python -m tests.conformance CHECKOUT [--runtime PROGRAM]… [--page FILE] [PROGRAM OF THE SUITE…]

Root, on a machine that may be used for it. The first runtime is the one whose failures must have reasons;
the exit status is 1 when one has none.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from composer.runtime import cgroup
from tests.conformance.reasons import HERE, SUITE
from tests.conformance.suite import Outcome, Suite

PAGE = Path(__file__).parents[2] / "docs" / "runtime-conformance.md"
OURS = str(Path(sys.executable).with_name("composer-runtime"))

Results = Mapping[str, Sequence[Outcome]]  # program → outcome by runtime


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("checkout", type=Path, help="of opencontainers/runtime-tools")
    parser.add_argument("programs", nargs="*", help="only these, and the page is not written")
    parser.add_argument("--runtime", action="append", help=f"may be repeated; default: {OURS} and runc")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for one program")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_intermixed_args()
    if os.geteuid():
        parser.error("root is needed")
    suite = Suite(options.checkout)
    suite.build()
    runtimes = options.runtime or [OURS, "runc"]
    results: dict[str, list[Outcome]] = {}
    for program in options.programs or suite.programs:
        results[program] = [suite.run(program, runtime, options.timeout) for runtime in runtimes]
        print(f"{program:34}", *(f"{one.words:14}" for one in results[program]), flush=True)
        for text in complaints(results[program][0]):
            print(f"    {text}")
    if not options.programs:
        options.page.write_text(page(results, [version(runtime) for runtime in runtimes]))
    faults = [name for name, outcomes in results.items() if not outcomes[0].good and not reason(name)]
    if faults:
        print(f"failed without a reason in tests/conformance/reasons.py: {', '.join(faults)}")
    return 1 if faults else 0


def complaints(outcome: Outcome) -> list[str]:
    died = outcome.died.splitlines()
    return [*dict.fromkeys(outcome.failed), *died[:3]]


def reason(program: str) -> str:
    return SUITE.get(program) or HERE.get(program) or ""


def version(runtime: str) -> str:
    said = subprocess.run([runtime, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"\d\S*", said)
    return f"{os.path.basename(runtime)} {number[0] if number else ''}".strip()


def page(results: Results, runtimes: Sequence[str]) -> str:
    """The table, ours first. Pure."""
    counts = (sum(outcomes[place].good for outcomes in results.values()) for place in range(len(runtimes)))
    totals = ", ".join(f"{name}: {count}" for name, count in zip(runtimes, counts, strict=True))
    rows = [f"| program | {' | '.join(runtimes)} | |", "|---|" + "---|" * len(runtimes) + "---|"]
    for name, outcomes in results.items():
        why = "" if outcomes[0].good else reason(name) or "no reason is known"
        rows.append(f"| {name} | {' | '.join(one.words for one in outcomes)} | {why} |")
    return HEAD.format(
        count=len(results),
        totals=totals,
        kernel=platform.release().split("-")[0],
        layout=cgroup.layout().kind,
        rows="\n".join(rows),
    )


HEAD = """\
# Conformance

The validation programs of [runtime-tools](https://github.com/opencontainers/runtime-tools), run by
`make conformance SUITE=path-to-a-checkout` (root; Go 1.21 or newer to build them), which writes this page.

Of {count} programs pass: {totals}. Linux {kernel}, cgroups {layout}.

A program fails as a whole when one of its tests does; "no result" means that it ended before the first.
The last column says why it cannot pass with ours.

{rows}

A container without a mount namespace of its own (linux_ns_itype) is made by chroot(2) into a tree of mounts
that is attached nowhere. It goes with its last process, and nothing of it shows on the host.
"""

if __name__ == "__main__":
    sys.exit(main())
