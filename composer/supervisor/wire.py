"""The supervisor's protocol: verbs, fields and answers on one page. Framing and descriptors are the keeper's.

The first frame of each side is `{"supervisor": 1}`. A request carries `id` and `verb`; it gets any number of
frames with `progress` or `event`, and in the end one with `ok` or `error`:

    {"id": 3, "progress": {"id": "Container web-1", "text": "Started", "state": "done"}}
    {"id": 3, "ok": {...}, "fds": [...]}      or      {"id": 3, "error": {"message": ..., "hint": ...}}

An error's `kind` is the name of its class, as far as it is one of ERRORS; `exit_code` that of the command.

    verb      does; answers when
    apply     a wish: `options` (plan.options.Options as JSON), fd `stack` (the Stack as JSON), `digest`,
              `origin` {working_dir, files, name_given}; `since`: when it was wished, in ns, so that it can
              be told again; `offline`: nothing is fetched; fd `owner`: a
              pidfd, the stack goes down with its volumes when that process ends. Answers when nothing is
              left to do; with `wait` when all is running and healthy, or `wait_timeout` s are over:
              {failures: [[instance, reason]]}
    predict   what `apply` with the same fields would do: `actions` [[subject, action, cause]]
    exec      a process in `container`: `process` {args, env, user, cwd, tty, privileged, detach};
              fds stdin, stdout, stderr. `ok` {pid} and fd tty once it runs, then event {exit: code}
    run       a one-off container of `service` (the stack as for `apply`, if sent): `overrides` {name, fields
              of the service}, `pull`, `build`, `no_deps`, `remove`; answers {container, id} once it exists
    begin     starts the one-off `container`, on fds stdin, stdout, stderr if sent; event {pid} with fd tty
              or stdin, then `ok` {exit}, or with `detach` at once
    end       stops the one-off `container`, killing it after `timeout` ns, and with `remove` takes it away
    attach    fds of `container`: stdin or tty, for writing
    signal    `signo` to `containers` (names), or to what this connection runs by exec
    pause     freeze (or with `thaw` thaw) `containers`; with `after` once nobody used them for so many ns
    events    from now on: {event: {...}} until the connection closes
    wait      answers when one of `containers` has ended: {container, exit}
    stats     `stats` {container: numbers} once, and `total` of the stack
    top       {container: [pids]}
    network   `container` gets on `network` with `connect` (and, as wished, an `attachment` as in the
              stack), else off it: at once if it runs, and for its next starts
    snapshot  keeps the point `name` of `services` (none: all), or with `restore` goes back to that of
              `stack`: what runs is stopped (`grace` in ns) or killed, and started again; with `wait` until
              it is ready. {failures, notices, services, volumes, containers}
    reached   {names: [[container, name]], addresses: [[container, address, port/protocol]]} outside of the
              stack that containers asked for, or began to talk to
    settle    answers when the record on disk has all that is known; with `wishes` not before all that
              was wished is done
    fault     disturbs the stack: `kind`, `targets`, `settings` (see `injected`), for `lasts` ns. Event
              {fault}; answers when it is over, which it is with the connection; with `detach` at once
    clear     undoes the faults of these `numbers` (none: all): {cleared}
    quit      the supervisor and the keeper end when nothing runs
"""

from __future__ import annotations

from collections.abc import Mapping

from composer.errors import ComposerError, ConflictError, ImageError, LateError, NotFoundError, UsageError

VERSION = 1
HELLO = {"supervisor": VERSION}
ERRORS: Mapping[str, type[ComposerError]] = {
    each.__name__: each for each in (ConflictError, ImageError, LateError, NotFoundError, UsageError)
}
"""What programs tell apart."""


def another_version(what: str) -> UsageError:
    """What to raise when a request, though of this protocol, has what came later."""
    return UsageError(
        f"this stack's supervisor does not know {what}",
        hint="it was started by another version: `composer down`, then `up` again",
    )
