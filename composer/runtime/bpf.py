"""bpf(2) for programs attached to a control group, and seccomp(2). Thin calls; raise OSError.

The programs are made in `cgroup.devices` and `seccomp`. Source: the manual pages and uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
import struct

from composer.runtime import linux

NR_BPF = 280 if linux.ARM else 321
_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
# More programs on one group than the kernel attaches (BPF_CGROUP_MAX_PROGS).
_MOST_PROGRAMS = 64

_SET_MODE_FILTER = 1


def _bpf(command: int, attributes: bytes) -> int:
    return linux.syscall(NR_BPF, command, attributes, len(attributes))


def load_device_program(instructions: bytes) -> int:
    """A descriptor of the verified program. It calls no helper, so it needs no licence beyond our own."""
    code, licence = (
        ctypes.create_string_buffer(instructions, len(instructions)),
        ctypes.c_char_p(b"Apache-2.0"),
    )
    pointer = ctypes.cast(licence, ctypes.c_void_p).value
    attributes = struct.pack(
        "IIQQIIQII",
        _TYPE_CGROUP_DEVICE,
        len(instructions) // 8,
        ctypes.addressof(code),
        pointer,
        0,
        0,
        0,
        0,
        0,
    )
    return _bpf(_PROG_LOAD, attributes)


def device_programs(group: int) -> list[int]:
    """Ids of the device programs attached to the group whose directory is open as `group` (not its
    parents').
    """
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    query = bytearray(
        struct.pack("IIIIQI", group, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), len(ids))
    )
    attributes = (ctypes.c_char * len(query)).from_buffer(query)
    linux.syscall(NR_BPF, _PROG_QUERY, ctypes.addressof(attributes), len(query))
    return list(ids[: struct.unpack_from("I", query, 24)[0]])


def attach_device_program(group: int, program: int) -> None:
    _bpf(_PROG_ATTACH, struct.pack("IIII", group, program, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))


def detach_device_program(group: int, identity: int) -> None:
    program = _bpf(_PROG_GET_FD_BY_ID, struct.pack("III", identity, 0, 0))
    try:
        _bpf(_PROG_DETACH, struct.pack("IIII", group, program, _ATTACH_CGROUP_DEVICE, 0))
    finally:
        os.close(program)


def set_seccomp_filter(program: bytes, flags: int) -> None:
    """Puts this thread, and what it starts, under a filter made of struct sock_filter."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    linux.syscall(linux.NR_SECCOMP, _SET_MODE_FILTER, flags, header)
