"""OCI `linux.seccomp` to a classic BPF program, and its loading.

`compile` is pure. The program first tells the architecture, then finds the system call's number by binary
search over ranges with one answer, then compares arguments where an answer depends on them. Paths without
arguments end in constant answers, which lets the kernel (5.11) remember them and skip the program.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md#seccomp, seccomp(2),
https://docs.kernel.org/userspace-api/seccomp_filter.html. Standard library only; the default profile is in
`seccomp_profile`, the numbers of system calls (Linux 6.18) in `seccomp_syscalls.json`.

Where the specification leaves it open: an entry without arguments goes before entries with arguments for
the same system call, otherwise the first that fits counts; conditions of one entry must all hold, but where
an entry has several for one argument each stands for itself (as in runc). Calls newer than the newest the
profile names give ENOSYS instead of an error of the profile's default, so that programs take their fallback
(as in runc).
"""

from __future__ import annotations

import errno
import functools
import json
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from composer.runtime import bpf

NATIVE = os.uname().machine

# What a machine can run: OCI name → (our column of numbers, AUDIT_ARCH_*). x32 shares the mark of x86_64.
_RUNS: dict[str, dict[str, tuple[str, int]]] = {
    "x86_64": {
        "SCMP_ARCH_X86_64": ("x86_64", 0xC000003E),
        "SCMP_ARCH_X86": ("x86", 0x40000003),
        "SCMP_ARCH_X32": ("x32", 0xC000003E),
    },
    "aarch64": {
        "SCMP_ARCH_AARCH64": ("aarch64", 0xC00000B7),
        "SCMP_ARCH_ARM": ("arm", 0x40000028),
    },
}
# Named by the specification, but of other machines: nothing to filter here.
_FOREIGN = {
    *("MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE"),
    *("S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB"),
}
_X32_BIT = 0x40000000

_KILL_PROCESS = 0x80000000
_ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_DATA = {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"}
_NO_SUCH_CALL = _ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
_MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS

# struct sock_filter and the few operations used.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_EQUAL, _GREATER, _AT_LEAST = 0x15, 0x25, 0x35
# Offsets in struct seccomp_data: number, architecture, then six arguments of 64 bits, low half first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

# Where a comparison goes on: with the next line, or to the end of the condition or of the entry.
NEXT, HOLDS, FAILS = "next", "holds", "fails"
Line = tuple[int, int, str, str]

# The first number of a range, and the code that answers for it.
Start = tuple[int, list[bytes]]


class Condition(NamedTuple):
    argument: int
    value: int
    value_two: int
    op: str


class Entry(NamedTuple):
    """One answer to a system call; without conditions it always fits."""

    conditions: tuple[Condition, ...]
    answer: int


def compile(seccomp: Mapping[str, Any], *, machine: str = NATIVE) -> bytes:
    """The filter as an array of struct sock_filter. Raises ValueError naming the field."""
    return _compile(json.dumps(seccomp, sort_keys=True), machine)


def load(program: bytes, flags: Sequence[str] = ()) -> None:
    """Puts the calling thread under the filter, for good. Needs no_new_privs or CAP_SYS_ADMIN; raises
    OSError.
    """
    bpf.set_seccomp_filter(program, flag_bits(flags))


def flag_bits(flags: Iterable[str]) -> int:
    """OCI `linux.seccomp.flags` for seccomp(2). Raises ValueError."""
    unknown = sorted(set(flags) - set(_FLAGS))
    if unknown:
        raise ValueError(f"linux.seccomp.flags: {unknown[0]!r} is none of {', '.join(_FLAGS)}")
    return sum(_FLAGS[flag] for flag in set(flags))


@functools.lru_cache(maxsize=16)
def default_profile(capabilities: frozenset[str]) -> Mapping[str, Any]:
    """OCI `linux.seccomp` for a container that asks for no other, by its bounding set of capabilities."""
    from composer.runtime.seccomp_profile import profile

    return profile(capabilities)


def supported() -> dict[str, list[str]]:
    """The words a profile may use here, by the names they have in the features of a runtime."""
    flags = sorted(_FLAGS)
    return {
        "actions": sorted(_ACTIONS),
        "operators": sorted(f"SCMP_CMP_{op}" for op in _COMPARE),
        "archs": sorted(_RUNS.get(NATIVE, ())),
        "knownFlags": flags,
        "supportedFlags": flags,
    }


def unknown_calls(seccomp: Mapping[str, Any]) -> list[str]:
    """Names that no architecture here has. They take no effect, as the field expects of profiles for many
    kernels.
    """
    known = _numbers()
    names = {name for entry in seccomp.get("syscalls") or () for name in entry.get("names") or ()}
    return sorted(names - {name for column in known.values() for name in column})


@functools.cache
def _numbers() -> dict[str, dict[str, int]]:
    """Architecture → name → number."""
    with open(os.path.join(os.path.dirname(__file__), "seccomp_syscalls.json"), encoding="ascii") as file:
        data = json.load(file)
    columns = enumerate(data["architectures"])
    return {
        arch: {name: row[place] for name, row in data["numbers"].items() if row[place] is not None}
        for place, arch in columns
    }


@functools.lru_cache(maxsize=64)
def _compile(text: str, machine: str) -> bytes:
    seccomp = json.loads(text)
    if machine not in _RUNS:
        raise ValueError(f"linux.seccomp: no system call numbers for {machine} machines")
    default = _answer(
        "linux.seccomp.defaultAction", seccomp.get("defaultAction"), seccomp.get("defaultErrnoRet")
    )
    entries = _entries(seccomp)
    by_mark: dict[int, list[Start]] = {}
    for column, mark in _architectures(seccomp, machine):
        by_mark.setdefault(mark, []).extend(_starts(entries, column, default))
    code = [_line(_LOAD, _ARCHITECTURE)]
    for mark, starts in by_mark.items():
        body = [_line(_LOAD, _NUMBER), *_search(_joined(starts))]
        code += [_line(_EQUAL, mark, 1, 0), _line(_JUMP, len(body)), *body]
    code.append(_line(_RETURN, _KILL_PROCESS))
    if len(code) > _MOST_INSTRUCTIONS:
        raise ValueError(f"linux.seccomp: {len(code)} instructions; the kernel takes {_MOST_INSTRUCTIONS}")
    return b"".join(code)


def _architectures(seccomp: Mapping[str, Any], machine: str) -> list[tuple[str, int]]:
    """The machine's own architecture always, and of the listed ones those it can run."""
    runs = _RUNS[machine]
    names = list(dict.fromkeys([next(iter(runs)), *(seccomp.get("architectures") or ())]))
    for name in names:
        known = {name for each in _RUNS.values() for name in each}
        if name not in known and name.removeprefix("SCMP_ARCH_") not in _FOREIGN:
            raise ValueError(f"linux.seccomp.architectures: {name!r} is unknown")
    return [runs[name] for name in names if name in runs]


def _entries(seccomp: Mapping[str, Any]) -> dict[str, list[Entry]]:
    """System call → its entries in the order of asking."""
    found: dict[str, list[Entry]] = {}
    for place, item in enumerate(seccomp.get("syscalls") or ()):
        field = f"linux.seccomp.syscalls[{place}]"
        answer = _answer(f"{field}.action", item.get("action"), item.get("errnoRet"))
        names = item.get("names")
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{field}.names: expected at least one name")
        conditions = [_condition(f"{field}.args[{i}]", arg) for i, arg in enumerate(item.get("args") or ())]
        indices = [condition.argument for condition in conditions]
        apart = len(set(indices)) < len(indices)
        for each in [(condition,) for condition in conditions] if apart else [tuple(conditions)]:
            for name in names:
                found.setdefault(name, []).append(Entry(each, answer))
    return {
        name: sorted(entries, key=lambda entry: bool(entry.conditions)) for name, entries in found.items()
    }


def _answer(field: str, action: Any, data: Any) -> int:
    if action == "SCMP_ACT_NOTIFY":
        raise ValueError(f"{field}: SCMP_ACT_NOTIFY is not supported")
    if action not in _ACTIONS:
        raise ValueError(f"{field}: {action!r} is none of {', '.join(_ACTIONS)}")
    if action not in _WITH_DATA:
        return _ACTIONS[action]
    if data is None:
        data = errno.EPERM
    if isinstance(data, bool) or not isinstance(data, int) or not 0 <= data <= 0xFFFF:
        raise ValueError(f"{field}: error number {data!r} is not within 0 and 65535")
    return _ACTIONS[action] | data


def _condition(field: str, arg: Mapping[str, Any]) -> Condition:
    op = str(arg.get("op", "")).removeprefix("SCMP_CMP_")
    if op not in _COMPARE:
        raise ValueError(f"{field}.op: {arg.get('op')!r} is none of SCMP_CMP_{{{', '.join(_COMPARE)}}}")
    index, value, value_two = arg.get("index", 0), arg.get("value", 0), arg.get("valueTwo", 0)
    for number in (index, value, value_two):
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**64:
            raise ValueError(f"{field}: index, value and valueTwo must be unsigned 64-bit numbers")
    if index > 5:
        raise ValueError(f"{field}.index: {index} is not within 0 and 5")
    return Condition(index, value, value_two, op)


def _starts(entries: Mapping[str, list[Entry]], column: str, default: int) -> list[Start]:
    """The code for each number of one architecture that the profile names, and for what lies between and
    above.
    """
    offset = _X32_BIT if column == "x32" else 0
    numbers = _numbers()[column]
    named = {numbers[name] + offset: entries[name] for name in entries if name in numbers}
    otherwise = [_line(_RETURN, default)]
    # Only an error hides that a call is missing; one that the profile could not know was not meant by its
    # default.
    hides = default not in (_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"])
    beyond = [_line(_RETURN, _NO_SUCH_CALL)] if hides and named else otherwise
    starts: list[Start] = [(offset, otherwise)]
    for number in sorted(named):
        starts += [(number, _leaf(named[number], default)), (number + 1, otherwise)]
    starts[-1] = (starts[-1][0], beyond)
    if column == "x86_64":
        # Calls of x32 go by the same mark: without entries of its own, that is a foreign architecture.
        starts += [(_X32_BIT, [_line(_RETURN, _KILL_PROCESS)]), (2 * _X32_BIT, beyond)]
    return starts


def _joined(starts: list[Start]) -> list[Start]:
    """In order; of several at one number the last counts, and neighbours with one answer are one."""
    joined: list[Start] = []
    for first, code in sorted(dict(starts).items()):
        if not joined or joined[-1][1] != code:
            joined.append((first, code))
    return joined


def _search(starts: list[Start]) -> list[bytes]:
    """A tree of comparisons over the starts, its leaves in place."""
    if len(starts) == 1:
        return starts[0][1]
    middle = len(starts) // 2
    below, above = _search(starts[:middle]), _search(starts[middle:])
    if len(below) <= 255:
        return [_line(_AT_LEAST, starts[middle][0], len(below), 0), *below, *above]
    # A conditional jump reaches 255 instructions; a plain one everything.
    return [_line(_AT_LEAST, starts[middle][0], 0, 1), _line(_JUMP, len(below)), *below, *above]


def _leaf(entries: list[Entry], default: int) -> list[bytes]:
    code: list[bytes] = []
    for entry in entries:
        code += _entry(entry)
        if not entry.conditions:
            return code
    return [*code, _line(_RETURN, default)]


def _entry(entry: Entry) -> list[bytes]:
    """Compares all conditions and answers, or falls out at the end."""
    parts = [_COMPARE[condition.op](condition) for condition in entry.conditions]
    length = sum(map(len, parts))
    code: list[bytes] = []
    for lines in parts:
        end = len(code) + len(lines)
        for operation, operand, true, false in lines:
            here = len(code) + 1
            target = {NEXT: 0, HOLDS: end - here, FAILS: length + 1 - here}
            code.append(_line(operation, operand, target[true], target[false]))
    return [*code, _line(_RETURN, entry.answer)]


def _halves(condition: Condition) -> tuple[Line, Line, int, int]:
    """Loads of the argument's high and low half, and the halves of the value."""
    place = _ARGUMENTS + 8 * condition.argument
    high, low = condition.value >> 32, condition.value & 0xFFFFFFFF
    return (_LOAD, place + 4, NEXT, NEXT), (_LOAD, place, NEXT, NEXT), high, low


def _equal(holds: str, fails: str) -> Callable[[Condition], list[Line]]:
    def lines(condition: Condition) -> list[Line]:
        load_high, load_low, high, low = _halves(condition)
        return [load_high, (_EQUAL, high, NEXT, fails), load_low, (_EQUAL, low, holds, fails)]

    return lines


def _order(low_test: int, holds: str, fails: str) -> Callable[[Condition], list[Line]]:
    """Greater (or, by the low half's test, at least); the opposite when `holds` and `fails` are exchanged."""

    def lines(condition: Condition) -> list[Line]:
        load_high, load_low, high, low = _halves(condition)
        return [
            load_high,
            (_GREATER, high, holds, NEXT),
            (_EQUAL, high, NEXT, fails),
            load_low,
            (low_test, low, holds, fails),
        ]

    return lines


def _masked(condition: Condition) -> list[Line]:
    """`value` is the mask, `value_two` what must remain."""
    load_high, load_low, high, low = _halves(condition)
    wanted_high, wanted_low = condition.value_two >> 32, condition.value_two & 0xFFFFFFFF
    return [
        load_high,
        (_AND, high, NEXT, NEXT),
        (_EQUAL, wanted_high, NEXT, FAILS),
        load_low,
        (_AND, low, NEXT, NEXT),
        (_EQUAL, wanted_low, HOLDS, FAILS),
    ]


_COMPARE: dict[str, Callable[[Condition], list[Line]]] = {
    "EQ": _equal(HOLDS, FAILS),
    "NE": _equal(FAILS, HOLDS),
    "GT": _order(_GREATER, HOLDS, FAILS),
    "GE": _order(_AT_LEAST, HOLDS, FAILS),
    "LT": _order(_AT_LEAST, FAILS, HOLDS),
    "LE": _order(_GREATER, FAILS, HOLDS),
    "MASKED_EQ": _masked,
}


def _line(operation: int, operand: int, true: int = 0, false: int = 0) -> bytes:
    return _INSTRUCTION.pack(operation, true, false, operand)
