"""`composer-runtime`: the OCI command line, for engines (podman, containerd) and for hands.

What forks containers runs from a protected interpreter (`protect`), so those verbs start this one again; that
is why nothing but the standard library may be imported before `main` has decided.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

_FORKING = {"create", "run", "exec"}
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_AGAIN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from composer.runtime.cli import main; main()"


def main() -> None:
    """Entry point: one verb, one exit code; errors are one line on stderr and in the engine's log."""
    if not _FORKING.isdisjoint(sys.argv):
        _restart_protected()
    from composer.runtime.options import UsageError, logging, parser

    try:
        code = _do(parser(sys.argv).parse_args())
    except UsageError as error:
        logging(sys.argv[1:]).error(str(error))
        code = 2
    os._exit(code)


def _do(args: Namespace) -> int:
    from importlib import import_module

    from composer.runtime.errors import StepError
    from composer.runtime.journal import Journal
    from composer.runtime.state import Store

    args.journal = Journal(args.log, args.log_format)
    args.store = Store(args.root)
    module, _, name = args.function.partition(".")
    try:
        code: int = getattr(import_module(f"composer.runtime.{module}"), name)(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if args.debug:
            sys.excepthook(type(error), error, error.__traceback__)
        args.journal.error(str(StepError.of(args.verb, error).lowered()))
        return 1
    return code


def _restart_protected() -> None:
    from composer.runtime import protect

    if not protect.protected():
        try:
            program = protect.interpreter()
        except PermissionError:
            from composer.runtime.options import logging

            logging(sys.argv[1:]).error("this runtime needs root")
            os._exit(1)
        command = [sys.executable, "-I", "-S", "-c", _AGAIN, _ROOT, *sys.argv[1:]]
        os.execve(program, command, os.environ)


if __name__ == "__main__":
    main()
