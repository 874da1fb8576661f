"""OCI device rules as v1 list lines, or as an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE. Pure.

The rules are read in order and each bit of an access (read, write, mknod) is decided by the last rule that
names it, so that both versions give one answer. Before the first rule everything is allowed (what the
parent group allows, that is).

https://docs.kernel.org/admin-guide/cgroup-v1/devices.html,
https://github.com/torvalds/linux include/uapi/linux/bpf.h (struct bpf_cgroup_dev_ctx), bpf(2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from composer.runtime.cgroup.files import CgroupError

_FIELD = "devices"
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ANY = 7


class Rule(NamedTuple):
    """`kind` is a, b or c; `major` and `minor` None for all of them; `access` some of r, w, m."""

    allow: bool
    kind: str
    major: int | None
    minor: int | None
    access: str


def parse(rules: Sequence[Mapping[str, Any]]) -> list[Rule]:
    """OCI `linux.resources.devices`. Raises CgroupError."""
    return [_rule(index, entry) for index, entry in enumerate(rules)]


def _rule(index: int, entry: Mapping[str, Any]) -> Rule:
    field = f"{_FIELD}[{index}]"
    # Character devices are also written `u` (unbuffered), as mknod(1) has it.
    kind = {"": "a", "u": "c"}.get(entry.get("type") or "", entry.get("type"))
    access = entry.get("access") or "rwm"
    if kind not in ("a", "b", "c"):
        raise CgroupError(f"type {kind!r} is none of a, b and c", field=field)
    if not isinstance(access, str) or set(access) - set("rwm"):
        raise CgroupError(f"access {access!r} is not made of r, w and m", field=field)
    return Rule(
        bool(entry.get("allow")), kind, _number(field, entry, "major"), _number(field, entry, "minor"), access
    )


def _number(field: str, entry: Mapping[str, Any], key: str) -> int | None:
    value = entry.get(key)
    if value is None or value == -1:  # Engines write -1 for "all".
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise CgroupError(f"{key} {value!r} is no device number", field=field)
    return value


def lines(rules: Sequence[Rule]) -> Iterator[tuple[str, str]]:
    """(file, line) to write in order on v1. `a` alone resets the list; narrower rules for `a` need both
    types.
    """
    for rule in rules:
        file = "devices.allow" if rule.allow else "devices.deny"
        everything = rule.major is None and rule.minor is None and set(rule.access) == set("rwm")
        if rule.kind == "a" and everything:
            yield file, "a"
            continue
        numbers = ":".join("*" if part is None else str(part) for part in (rule.major, rule.minor))
        for kind in "bc" if rule.kind == "a" else rule.kind:
            yield file, f"{kind} {numbers} {rule.access}"


# struct bpf_insn: opcode, registers (source << 4 | destination), jump offset, immediate.
_INSTRUCTION = struct.Struct("=BBhi")
_LOAD32, _MOVE, _MOVE_IMMEDIATE = 0x61, 0xBF, 0xB7
_AND, _RIGHT_SHIFT = 0x57, 0x77
_JUMP_NOT_EQUAL, _JUMP_BITS, _JUMP = 0x56, 0x46, 0x05
_EXIT = 0x95
_CONTEXT, _KIND, _PENDING, _MAJOR, _MINOR, _RESULT = 1, 2, 3, 4, 5, 0


def program(rules: Sequence[Rule]) -> bytes:
    """The eBPF program: 1 allows, 0 denies. Rules are asked from the last to the first.

    One register holds the wanted bits nobody has allowed yet; a denied one of them ends it, none left ends
    it well.
    """
    code = [
        _instruction(_LOAD32, _KIND, _CONTEXT, 0),
        _instruction(_MOVE, _PENDING, _KIND),
        _instruction(_AND, _KIND, immediate=0xFFFF),
        _instruction(_RIGHT_SHIFT, _PENDING, immediate=16),
        _instruction(_LOAD32, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD32, _MINOR, _CONTEXT, 8),
    ]
    for rule in reversed(rules):
        code += _rule_code(rule)
        if rule[1:] == ("a", None, None, "rwm"):
            break  # Nothing before it can be reached, and the verifier refuses what cannot be reached.
    else:
        code += _verdict(True)
    return b"".join(code)


def _rule_code(rule: Rule) -> list[bytes]:
    bits = sum(_ACCESS[letter] for letter in set(rule.access))
    if rule.allow:
        then = [_instruction(_AND, _PENDING, immediate=_ANY & ~bits)] if bits != _ANY else []
        then += [_instruction(_JUMP_NOT_EQUAL, _PENDING, offset=2)] if bits != _ANY else []
        then += _verdict(True)
    elif bits == _ANY:
        then = _verdict(False)
    else:
        then = [
            _instruction(_JUMP_BITS, _PENDING, offset=1, immediate=bits),
            _instruction(_JUMP, 0, offset=2),
            *_verdict(False),
        ]
    tests = [
        (register, value)
        for register, value in (
            (_KIND, _TYPES.get(rule.kind)),
            (_MAJOR, rule.major),
            (_MINOR, rule.minor),
        )
        if value is not None
    ]
    return [
        _instruction(_JUMP_NOT_EQUAL, register, offset=len(tests) - place - 1 + len(then), immediate=value)
        for place, (register, value) in enumerate(tests)
    ] + then


def _verdict(allowed: bool) -> list[bytes]:
    return [_instruction(_MOVE_IMMEDIATE, _RESULT, immediate=int(allowed)), _instruction(_EXIT, 0)]


def _instruction(opcode: int, target: int, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    # The immediate is a signed field; device numbers above 2^31 wrap into it and compare equal as 32 bits.
    return _INSTRUCTION.pack(opcode, source << 4 | target, offset, (immediate + 2**31) % 2**32 - 2**31)
