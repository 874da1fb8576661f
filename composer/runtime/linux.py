"""The kernel's own vocabulary: constants, structures, one thin function per system call.

The only module of the runtime that knows ctypes. Every function raises OSError with errno and, where there
is one, the path. Nothing here decides anything. Sources: the section 2 manual pages and the uapi headers.
"""

from __future__ import annotations

import ctypes
import os
import struct

# PyDLL keeps the interpreter lock: the callers are single-threaded and some of these calls fork.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 6

ARM = os.uname().machine == "aarch64"
# Numbers from 424 on are the same everywhere.
NR_RT_SIGACTION = 134 if ARM else 13
NR_GETCWD, NR_PIVOT_ROOT, NR_KEYCTL, NR_IOPRIO_SET, NR_SCHED_SETATTR, NR_SECCOMP = (
    (17, 41, 219, 30, 274, 277) if ARM else (79, 155, 250, 251, 314, 317)
)
NR_OPEN_TREE, NR_MOVE_MOUNT, NR_FSOPEN, NR_FSCONFIG, NR_FSMOUNT = 428, 429, 430, 431, 432
NR_CLONE3, NR_CLOSE_RANGE, NR_OPENAT2, NR_MOUNT_SETATTR = 435, 436, 437, 442

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000
O_PATH = os.O_PATH

CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x80, 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x10000000, 0x20000000, 0x40000000
CLONE_PIDFD, CLONE_PARENT = 0x1000, 0x8000
CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP = 0x100000000, 0x200000000

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 1, 2, 4, 8, 16

OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD, FSCONFIG_CMD_CREATE = 0, 1, 5, 6

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME = 0x70, 0x0, 0x10, 0x20
MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_IDMAP, MOUNT_ATTR_NOSYMFOLLOW = 0x80, 0x100000, 0x200000

MS_REC = 1 << 14
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 1, 4, 8, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
KEYCTL_JOIN_SESSION_KEYRING = 1
CLOSE_RANGE_CLOEXEC = 4

PROC_SUPER_MAGIC, DEVPTS_SUPER_MAGIC, PIPEFS_MAGIC = 0x9FA0, 0x1CD1, 0x50495045
TIOCSCTTY, TIOCSPTLCK, TIOCSWINSZ, TIOCGPTPEER = 0x540E, 0x40045431, 0x5414, 0x5441

_UNLIMITED = 0xFFFFFFFF


def _check(result: int, path: str | bytes | None = None) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fsdecode(path) if path else None)
    return result


def syscall(number: int, *args: object, path: str | bytes | None = None) -> int:
    """syscall(2): integers, bytes and ctypes pointers, as many as it takes."""
    return _check(_libc.syscall(number, *args, *(None,) * (6 - len(args))), path)


def default_action(number: int) -> None:
    """rt_sigaction(2): the default again, also for 32 and 33, which the C library keeps to itself."""
    syscall(NR_RT_SIGACTION, number, bytes(32), None, 8)


# --- processes and namespaces


def clone(flags: int, *, cgroup: int = -1) -> tuple[int, int]:
    """clone3(2) as fork: (pid, pidfd) in the parent, (0, -1) in the child, which has no signal handlers.

    Without CLONE_PARENT the child's end is told by SIGCHLD. `cgroup` is a directory of cgroup v2 to start in.
    Only for single-threaded processes: the C library's own fork handlers do not run.
    """
    pidfd = ctypes.c_int(-1)
    into = CLONE_INTO_CGROUP if cgroup >= 0 else 0
    signal = 0 if flags & CLONE_PARENT else 17
    flags |= CLONE_PIDFD | CLONE_CLEAR_SIGHAND | into
    args = struct.pack("11Q", flags, ctypes.addressof(pidfd), 0, 0, signal, 0, 0, 0, 0, 0, max(cgroup, 0))
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = _libc.syscall(NR_CLONE3, args, len(args), None, None, None, None)
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0, -1
    python.PyOS_AfterFork_Parent()
    return _check(pid), pidfd.value


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags))


def setns(descriptor: int, flags: int, path: str | None = None) -> None:
    _check(_libc.setns(descriptor, flags), path)


def prctl(option: int, *args: int) -> int:
    return _check(_libc.prctl(option, *(ctypes.c_ulong(value) for value in (*args, 0, 0, 0, 0)[:4])))


def set_filesystem_ids(uid: int, gid: int) -> tuple[int, int]:
    """setfsuid(2), setfsgid(2), of this thread: what they were. Says nothing when it may not."""
    old = _libc.setfsuid(ctypes.c_uint(uid)), _libc.setfsgid(ctypes.c_uint(gid))
    return old[0] & _UNLIMITED, old[1] & _UNLIMITED


def capget() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this process, as bit sets."""
    data = (ctypes.c_uint32 * 6)()
    _check(_libc.capget(struct.pack("Ii", 0x20080522, 0), data))
    return data[0] | data[3] << 32, data[1] | data[4] << 32, data[2] | data[5] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    sets = (effective, permitted, inheritable)
    low, high = [s & 0xFFFFFFFF for s in sets], [s >> 32 for s in sets]
    _check(_libc.capset(struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *low, *high)))


def join_session_keyring() -> None:
    """keyctl(2): leave the keyring that was inherited for a new, anonymous one."""
    syscall(NR_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, None)


def sched_setattr(
    pid: int, policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """sched_setattr(2); the three times in nanoseconds."""
    attr = struct.pack("IIQiIQQQ", 48, policy, flags, nice, priority, runtime, deadline, period)
    syscall(NR_SCHED_SETATTR, pid, attr, 0)


def ioprio_set(pid: int, class_: int, level: int) -> None:
    syscall(NR_IOPRIO_SET, 1, pid, class_ << 13 | level)


def personality(persona: int) -> None:
    _check(_libc.personality(ctypes.c_ulong(persona)))


def setdomainname(name: str) -> None:
    data = name.encode()
    _check(_libc.setdomainname(data, len(data)))


# --- descriptors and paths


def close_range(first: int, last: int = _UNLIMITED, flags: int = 0) -> None:
    if first <= last:
        syscall(NR_CLOSE_RANGE, first, last, flags)


def openat2(directory: int, path: str, flags: int, resolve: int = 0, mode: int = 0) -> int:
    """openat2(2), close-on-exec. With RESOLVE_IN_ROOT, `directory` is the root of all resolution."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return syscall(NR_OPENAT2, directory, os.fsencode(path), how, len(how), path=path)


def write_file(path: str, text: str, directory: int | None = None) -> None:
    """One write(2) to a file of the kernel's; the error names the path, as it does not by itself."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


def getcwd() -> str:
    """getcwd(2) as the kernel says it: not beginning with a slash when outside the root."""
    buffer = ctypes.create_string_buffer(4096)
    syscall(NR_GETCWD, buffer, len(buffer))
    return os.fsdecode(buffer.value)


def filesystem_magic(descriptor: int) -> int:
    """The type of the file system that `descriptor` is on, by fstatfs(2)."""
    buffer = ctypes.create_string_buffer(120)
    _check(_libc.fstatfs(descriptor, buffer))
    return int(struct.unpack_from("l", buffer)[0])


# --- mounts (https://man7.org/linux/man-pages/man2/fsopen.2.html and its neighbours)


def fsopen(fstype: str) -> int:
    return syscall(NR_FSOPEN, fstype.encode(), 1, path=fstype)


def fsconfig(context: int, key: str, value: str | None) -> None:
    """Set an option of the file system to be; None for a bare word."""
    command = FSCONFIG_SET_FLAG if value is None else FSCONFIG_SET_STRING
    data = None if value is None else os.fsencode(value)
    option = key if value is None else f"{key}={value}"
    syscall(NR_FSCONFIG, context, command, key.encode(), data, 0, path=option)


def fsmount(context: int, attributes: int = 0, path: str | None = None) -> int:
    """Create what `context` describes and mount it, attached nowhere."""
    syscall(NR_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0, path=path)
    return syscall(NR_FSMOUNT, context, 1, attributes, path=path)


def open_tree(directory: int, path: str, flags: int) -> int:
    return syscall(NR_OPEN_TREE, directory, os.fsencode(path), flags | os.O_CLOEXEC, path=path)


def move_mount(mount: int, target: int, path: str | None = None) -> None:
    """Attach the mount behind one descriptor at the place behind another."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    syscall(NR_MOVE_MOUNT, mount, b"", target, b"", flags, path=path)


def mount_setattr(
    mount: int,
    *,
    on: int = 0,
    off: int = 0,
    propagation: int = 0,
    userns: int = -1,
    recursive: bool = False,
    path: str | None = None,
) -> None:
    attr = struct.pack("QQQQ", on, off, propagation, max(userns, 0))
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall(NR_MOUNT_SETATTR, mount, b"", flags, attr, len(attr), path=path)


def set_propagation(path: str, flags: int) -> None:
    """mount(2) with nothing but a propagation type (MS_REC may be added)."""
    _check(_libc.mount(None, os.fsencode(path), None, ctypes.c_ulong(flags), None), path)


def pivot_root(new_root: str, put_old: str) -> None:
    syscall(NR_PIVOT_ROOT, os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def umount(path: str, flags: int) -> None:
    _check(_libc.umount2(os.fsencode(path), flags), path)
