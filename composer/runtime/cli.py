"""`composer-runtime`: the OCI command line, for engines (podman, containerd) and for hands.

What forks containers runs from a protected interpreter (`protect`), so those verbs start this one again; that
is why nothing but the standard library may be imported before `main` has decided.
"""

from __future__ import annotations

import os
import sys

_FORKING = {"create", "run", "exec"}
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_AGAIN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from composer.runtime.cli import main; main()"


def main() -> None:
    """Entry point: one verb, one exit code; errors are one line on stderr and in the engine's log."""
    if not _FORKING.isdisjoint(sys.argv):
        _restart_protected()
    from importlib import import_module

    from composer.runtime.errors import StepError
    from composer.runtime.options import parser
    from composer.runtime.state import Store

    args = parser(sys.argv).parse_args()
    args.store = Store(args.root)
    module, _, name = args.function.partition(".")
    try:
        code = getattr(import_module(f"composer.runtime.{module}"), name)(args)
        sys.stdout.flush()
    except (StepError, OSError, ValueError) as error:
        _complain(args.log, args.log_format, StepError.of(args.verb, error))
        code = 1
    os._exit(code)


def _restart_protected() -> None:
    from composer.runtime import protect

    if not protect.protected():
        program = protect.interpreter()
        command = [sys.executable, "-I", "-S", "-c", _AGAIN, _ROOT, *sys.argv[1:]]
        os.execve(program, command, os.environ)


def _complain(log: str | None, log_format: str, error: Exception) -> None:
    import json
    import time

    print(f"composer-runtime: {error}", file=sys.stderr)
    if log:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f'time="{now}" level=error msg={json.dumps(str(error))}'
        if log_format == "json":
            line = json.dumps({"level": "error", "msg": str(error), "time": now})
        with open(log, "a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
