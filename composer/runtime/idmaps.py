"""Whether this kernel can give containers user namespaces, and show a tree of the host in them. It is asked.

Nothing here is guessed from versions: each thing a container needs is done once, where nobody sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from composer.runtime import linux, namespaces, users
from composer.runtime.inroot import closing
from composer.runtime.mounts import new_filesystem
from composer.runtime.overlay import Overlay, Owner, idmap, open_overlay

_INSIDE = ("proc", "sysfs", "mqueue", "tmpfs")
_FLAGS = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET | linux.CLONE_NEWIPC


def obstacle(state: str, first: int, size: int) -> str:
    """Why containers with layers in `state` cannot have ids from `first` on; "" if they can."""
    rows = [{"containerID": 0, "hostID": first, "size": size}]
    try:
        with closing(namespaces.new_userns(rows, rows)) as userns:
            return _layers(state, Owner(userns, first, first)) or _filesystems(userns)
    except OSError as error:
        return f"a user namespace cannot be made here ({error.strerror})"


def shown(userns: int, path: str, *, recursive: bool = True) -> bool:
    """Whether a tree can be shown by the mappings of this namespace. Raises OSError if it is not there."""
    tree = linux.AT_RECURSIVE if recursive else 0
    with closing(linux.open_tree(linux.AT_FDCWD, path, linux.OPEN_TREE_CLONE | tree)) as mount:
        try:
            idmap(mount, userns, recursive=recursive, path=path)
        except OSError:
            return False
        return True


def _layers(state: str, owner: Owner) -> str:
    """Files made through an overlay of mapped layers keep their owners on disk."""
    import tempfile  # asked once in the life of a state directory

    with tempfile.TemporaryDirectory(dir=state, prefix="idmap-") as place:
        paths = [os.path.join(place, name) for name in ("lower", "upper", "work")]
        for path in paths:
            os.mkdir(path)
        code = _child(0, lambda: _write(Overlay((paths[0],), paths[1], paths[2]), owner))
        if code:
            return f"the file system of {state} cannot show files under other ids ({os.strerror(code)})"
        status = os.stat(os.path.join(paths[1], "file"))
        return "" if (status.st_uid, status.st_gid) == (0, 0) else f"owners get lost on {state}"


def _write(overlay: Overlay, owner: Owner) -> None:
    with closing(open_overlay(overlay, owner)) as mount, users.acting_as(owner.uid, owner.gid):
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=mount))


def _filesystems(userns: int) -> str:
    """The kernel's own file systems can be mounted, which takes that the host's are not covered."""
    with closing(os.dup(userns)) as joined:

        def enter() -> None:
            linux.setns(joined, linux.CLONE_NEWUSER)
            code = _child(_FLAGS, mount)
            if code:
                os._exit(code)

        def mount() -> None:
            users.become_root()
            for fstype in _INSIDE:
                os.close(new_filesystem(fstype, fstype, (), fstype))

        code = _child(0, enter)
    return f"{', '.join(_INSIDE)} cannot be mounted there ({os.strerror(code)})" if code else ""


def _child(flags: int, work: Callable[[], None]) -> int:
    """Do `work` in a process of its own: 0, or the errno of what went wrong."""
    pid, pidfd = linux.clone(flags)
    if pid == 0:
        code = 0
        try:
            work()
        except OSError as error:
            code = error.errno or 255
        except BaseException:
            code = 255
        os._exit(code)
    with closing(pidfd):
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    return ended.si_status if ended else 255
