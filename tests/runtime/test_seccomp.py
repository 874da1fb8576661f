"""The compiler against an interpreter of classic BPF, against libseccomp where there is one, and in the
kernel.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import json
import os
import struct
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.runtime import linux, seccomp
from composer.runtime.capabilities import DEFAULT, NAMES

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
X32 = 0x40000000
ALLOW, LOG, KILL, KILL_THREAD, TRAP = 0x7FFF0000, 0x7FFC0000, 0x80000000, 0, 0x30000
NUMBERS = seccomp._numbers()
ARCHES = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
OPERATIONS = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]


def failing(number: int) -> int:
    return 0x50000 | number


def run(program: bytes, arch: int, number: int, *args: int) -> int:
    """What the kernel would get as the answer. Refuses what the kernel's checker refuses."""
    data = struct.pack(
        "=iIQ6Q", number - 2**32 if number >= 2**31 else number, arch, 0, *(*args, *[0] * 6)[:6]
    )
    lines = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        code, true, false, operand = lines[at]
        at += 1
        match code:
            case 0x20:
                assert operand % 4 == 0 and operand < 64
                accumulator = struct.unpack_from("=I", data, operand)[0]
            case 0x54:
                accumulator &= operand
            case 0x05:
                at += operand
            case 0x15:
                at += true if accumulator == operand else false
            case 0x25:
                at += true if accumulator > operand else false
            case 0x35:
                at += true if accumulator >= operand else false
            case 0x45:
                at += true if accumulator & operand else false
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(f"unexpected operation {code:#x}")


def rule(*names: str, action: str = "ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def arg(index: int, op: str, value: int, value_two: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": value_two}


def profile(*syscalls: dict[str, Any], default: str = "ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": f"SCMP_ACT_{default}", "syscalls": list(syscalls), **more}


def compiled(*syscalls: dict[str, Any], default: str = "ERRNO", **more: Any) -> bytes:
    return seccomp.compile(profile(*syscalls, default=default, **more), machine="x86_64")


# --- answers


ACTIONS = [
    ("ALLOW", {}, ALLOW),
    ("LOG", {}, LOG),
    ("KILL", {}, KILL_THREAD),
    ("KILL_THREAD", {}, KILL_THREAD),
    ("KILL_PROCESS", {}, KILL),
    ("TRAP", {}, TRAP),
    ("ERRNO", {}, failing(errno.EPERM)),
    ("ERRNO", {"errnoRet": errno.ENOTTY}, failing(errno.ENOTTY)),
    ("ERRNO", {"errnoRet": 0}, failing(0)),
    ("TRACE", {"errnoRet": 7}, 0x7FF00007),
]


@pytest.mark.parametrize(("action", "more", "answer"), ACTIONS)
def test_actions(action: str, more: dict[str, Any], answer: int) -> None:
    program = compiled(rule("mkdir", "rmdir", action=action, **more), rule("file_setattr"))
    assert run(program, X86_64, NUMBERS["x86_64"]["mkdir"]) == answer
    assert run(program, X86_64, NUMBERS["x86_64"]["rmdir"]) == answer
    assert run(program, X86_64, NUMBERS["x86_64"]["read"]) == failing(errno.EPERM)


@pytest.mark.parametrize(("action", "more", "answer"), ACTIONS)
def test_default_actions(action: str, more: dict[str, Any], answer: int) -> None:
    default = {"defaultErrnoRet": more["errnoRet"]} if more else {}
    program = compiled(rule("mkdir"), rule("file_setattr"), default=action, **default)
    assert run(program, X86_64, NUMBERS["x86_64"]["read"]) == answer
    assert run(program, X86_64, NUMBERS["x86_64"]["mkdir"]) == ALLOW


def truth(op: str, value: int, wanted: int, two: int) -> bool:
    return {
        "EQ": value == wanted,
        "NE": value != wanted,
        "LT": value < wanted,
        "LE": value <= wanted,
        "GT": value > wanted,
        "GE": value >= wanted,
        "MASKED_EQ": value & wanted == two,
    }[op]


# Around the seams of the two halves.
words = st.sampled_from([0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]) | st.integers(
    0, 2**64 - 1
)


@given(op=st.sampled_from(OPERATIONS), value=words, wanted=words, two=words, index=st.integers(0, 5))
def test_comparisons(op: str, value: int, wanted: int, two: int, index: int) -> None:
    program = compiled(rule("read", args=[arg(index, op, wanted, two)]), rule("file_setattr"))
    args = [0] * 6
    args[index] = value
    assert run(program, X86_64, 0, *args) == (ALLOW if truth(op, value, wanted, two) else failing(1))


conditions = st.lists(st.tuples(st.sampled_from(OPERATIONS), words, words), min_size=1, max_size=6)


@given(conditions=conditions, values=st.lists(words, min_size=6, max_size=6))
def test_conditions_on_different_arguments_must_all_hold(
    conditions: list[tuple[str, int, int]], values: list[int]
) -> None:
    args = [arg(place, *condition) for place, condition in enumerate(conditions)]
    program = compiled(rule("read", args=args), rule("file_setattr"))
    holds = all(truth(op, value, *rest) for (op, *rest), value in zip(conditions, values, strict=False))
    assert run(program, X86_64, 0, *values) == (ALLOW if holds else failing(1))


def test_conditions_on_one_argument_count_alone() -> None:
    program = compiled(rule("read", args=[arg(0, "EQ", 1), arg(0, "EQ", 2)]), rule("file_setattr"))
    assert [run(program, X86_64, 0, value) == ALLOW for value in (0, 1, 2, 3)] == [False, True, True, False]


def test_first_fitting_entry_counts_and_unconditional_ones_before() -> None:
    program = compiled(
        rule("read", action="LOG", args=[arg(0, "GT", 5)]),
        rule("read", action="TRAP", args=[arg(0, "GT", 3)]),
        rule("write", action="TRAP", args=[arg(0, "EQ", 1)]),
        rule("write"),
    )
    assert [run(program, X86_64, 0, value) for value in (9, 4, 1)] == [LOG, TRAP, failing(1)]
    assert run(program, X86_64, 1, 1) == ALLOW


# --- architectures


def test_unlisted_architectures_end_the_process() -> None:
    program = compiled(rule("read"), rule("file_setattr"))
    assert run(program, X86_64, 0) == ALLOW
    assert run(program, I386, 3) == run(program, AARCH64, 63) == run(program, X86_64, X32) == KILL


def test_each_architecture_by_its_own_numbers() -> None:
    program = compiled(rule("readv"), rule("file_setattr"), architectures=ARCHES)
    assert [run(program, X86_64, n) for n in (19, X32 | 515, X32 | 19)] == [ALLOW, ALLOW, failing(1)]
    assert [run(program, I386, n) for n in (145, 19)] == [ALLOW, failing(1)]


def test_arm() -> None:
    text = profile(rule("read", "set_tls"), rule("file_setattr"), architectures=["SCMP_ARCH_ARM"])
    program = seccomp.compile(text, machine="aarch64")
    assert [run(program, AARCH64, n) for n in (63, 0)] == [ALLOW, failing(1)]
    assert [run(program, ARM, n) for n in (3, 0xF0005, 63)] == [ALLOW, ALLOW, failing(1)]
    assert run(program, X86_64, 0) == KILL


def test_architectures_of_other_machines_change_nothing() -> None:
    assert compiled(rule("read"), architectures=["SCMP_ARCH_S390X", "SCMP_ARCH_AARCH64"]) == compiled(
        rule("read")
    )


@pytest.mark.parametrize("default", ["ERRNO", "KILL_PROCESS", "TRAP"])
def test_calls_newer_than_the_profile_do_not_exist(default: str) -> None:
    program = compiled(rule("read", "openat2"), default=default, architectures=ARCHES)
    for arch, extra in ((X86_64, 0), (X86_64, X32), (I386, 0)):
        assert run(program, arch, extra | 437) == ALLOW
        assert run(program, arch, extra | 438) == failing(errno.ENOSYS)
    assert run(program, X86_64, 2**32 - 1) == failing(errno.ENOSYS)


def test_allowing_defaults_stay_open_for_new_calls() -> None:
    program = compiled(rule("read", action="ERRNO"), default="ALLOW")
    assert [run(program, X86_64, n) for n in (0, 1, 5000, 2**32 - 1)] == [failing(1), ALLOW, ALLOW, ALLOW]
    assert run(compiled(default="ERRNO"), X86_64, 0) == failing(1)


# --- mistakes


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "defaultAction: None is none of SCMP_ACT_KILL"),
    (profile(default="NOTIFY"), "NOTIFY is not supported"),
    (profile(rule("read", action="NOTIFY")), r"syscalls\[0\].action: SCMP_ACT_NOTIFY is not supported"),
    (profile(rule("read", action="MAYBE")), r"syscalls\[0\].action: 'SCMP_ACT_MAYBE'"),
    (profile(rule("read", action="ERRNO", errnoRet=70000)), "70000 is not within"),
    (profile(rule("read", action="ERRNO", errnoRet="1")), "'1' is not within"),
    (profile(rule()), r"syscalls\[0\].names"),
    (profile(rule("read", args=[arg(6, "EQ", 0)])), r"args\[0\].index: 6"),
    (profile(rule("read", args=[arg(0, "EQ", -1)])), "unsigned 64-bit"),
    (profile(rule("read", args=[arg(0, "EQ", 2**64)])), "unsigned 64-bit"),
    (profile(rule("read", args=[arg(0, "LIKE", 0)])), r"args\[0\].op: 'SCMP_CMP_LIKE'"),
    (profile(architectures=["SCMP_ARCH_Z80"]), "'SCMP_ARCH_Z80' is unknown"),
    (profile(*[rule("read", args=[arg(0, "EQ", n)]) for n in range(1000)]), "the kernel takes 4096"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_mistakes_name_the_field(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seccomp.compile(bad, machine="x86_64")


def test_unknown_machine_and_flag() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.compile(profile(), machine="riscv64")
    with pytest.raises(ValueError, match="FLAG_NEW"):
        seccomp.flag_bits(["SECCOMP_FILTER_FLAG_NEW"])
    assert seccomp.flag_bits(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]) == 6


def test_unknown_calls_are_named() -> None:
    assert seccomp.unknown_calls(profile(rule("read", "frobnicate"))) == ["frobnicate"]


# --- the default profile


def default(arch: int, *capabilities: str) -> Callable[..., int]:
    machine = "x86_64" if arch in (X86_64, I386) else "aarch64"
    program = seccomp.compile(seccomp.default_profile(frozenset(capabilities)), machine=machine)
    column = {X86_64: "x86_64", I386: "x86", AARCH64: "aarch64", ARM: "arm"}[arch]
    return lambda name, *args: run(program, arch, NUMBERS[column][name], *args)


@pytest.mark.parametrize("arch", [X86_64, I386, AARCH64, ARM])
def test_default_profile_by_argument(arch: int) -> None:
    ask = default(arch, *DEFAULT)
    assert [ask("socket", family) == ALLOW for family in (1, 2, 10, 16, 38, 39, 40, 41)] == [
        *(True, True, True, True),
        *(False, True, False, True),
    ]
    assert [ask("clone", flags) == ALLOW for flags in (0x11, 0x3D0F00, 0x10000000, 0x20000, 0x40000011)] == [
        *(True, True),
        *(False, False, False),
    ]
    assert ask("clone3") == failing(errno.ENOSYS)
    assert [ask("personality", n) == ALLOW for n in (0, 8, 0xFFFFFFFF, 0x40000)] == [True, True, True, False]


NEVER = [
    "keyctl",
    "add_key",
    "request_key",
    "kexec_load",
    "swapon",
    "pivot_root",
    "userfaultfd",
    "io_uring_setup",
]


@pytest.mark.parametrize("name", NEVER)
def test_default_profile_never_allows(name: str) -> None:
    assert default(X86_64, *DEFAULT)(name) == default(X86_64, *NAMES)(name) == failing(errno.EPERM)


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        *(("mount", "CAP_SYS_ADMIN"), ("unshare", "CAP_SYS_ADMIN"), ("setns", "CAP_SYS_ADMIN")),
        *(("bpf", "CAP_BPF"), ("perf_event_open", "CAP_PERFMON"), ("syslog", "CAP_SYSLOG")),
        *(("reboot", "CAP_SYS_BOOT"), ("init_module", "CAP_SYS_MODULE"), ("acct", "CAP_SYS_PACCT")),
        *(("open_by_handle_at", "CAP_DAC_READ_SEARCH"), ("settimeofday", "CAP_SYS_TIME")),
        *(("kcmp", "CAP_SYS_PTRACE"), ("iopl", "CAP_SYS_RAWIO"), ("mbind", "CAP_SYS_NICE")),
    ],
)
def test_default_profile_by_capability(name: str, capability: str) -> None:
    assert default(X86_64, *DEFAULT)(name) == failing(errno.EPERM)
    assert default(X86_64, *DEFAULT, capability)(name) == ALLOW


def test_admin_may_make_namespaces() -> None:
    ask = default(X86_64, "CAP_SYS_ADMIN")
    assert ask("clone", 0x20000) == ask("clone3") == ALLOW


def test_default_profile_names_only_calls_that_exist() -> None:
    assert seccomp.unknown_calls(seccomp.default_profile(frozenset(NAMES))) == []


def test_default_profile_is_small() -> None:
    program = seccomp.compile(seccomp.default_profile(frozenset(DEFAULT)), machine="x86_64")
    assert len(program) // 8 < 1000


# --- libseccomp as the judge

_LIBRARY = ctypes.util.find_library("seccomp")
_LIBSECCOMP_OPS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def judged(rules: list[dict[str, Any]]) -> bytes:
    """The rules as libseccomp compiles them: default EPERM, all x86 architectures."""
    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(failing(1)))
    for arch in (I386, 0x4000003E):
        assert library.seccomp_arch_add(context, ctypes.c_uint32(arch)) == 0
    for entry in rules:
        action = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_LOG": LOG}[entry["action"]]
        args = (_Comparison * 6)(
            *(
                _Comparison(a["index"], _LIBSECCOMP_OPS[a["op"][9:]], a["value"], a["valueTwo"])
                for a in entry.get("args", [])
            )
        )
        for name in entry["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            count = len(entry.get("args", []))
            done = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, count, args)
            assert done == 0, (name, done)
    with tempfile.TemporaryFile() as file:
        assert library.seccomp_export_bpf(context, file.fileno()) == 0
        library.seccomp_release(context)
        file.seek(0)
        return file.read()


small = st.sampled_from([0, 1, 3, 2**31, 2**32 - 1])
# Names with one number each on all three architectures and no multiplexer behind them; each at most once,
# since for overlapping entries nothing is agreed.
plain = ["read", "mkdir", "chmod", "dup2", "kill", "umask", "mlockall", "getrandom", "openat2"]


@st.composite
def rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.lists(st.sampled_from(plain), unique=True, min_size=1))
    found = []
    for name in names:
        indices = draw(st.lists(st.integers(0, 3), unique=True, max_size=3))
        args = []
        for index in indices:
            op, value = draw(st.sampled_from(OPERATIONS)), draw(small)
            args.append(arg(index, op, value, draw(small) & value if op == "MASKED_EQ" else 0))
        found.append(
            rule(name, action=draw(st.sampled_from(["ALLOW", "LOG"])), **({"args": args} if args else {}))
        )
    return found


@pytest.mark.skipif(_LIBRARY is None, reason="libseccomp is not installed")
@settings(max_examples=60)
@given(rules=rules(), values=st.lists(small, min_size=6, max_size=6))
def test_same_answers_as_libseccomp(rules: list[dict[str, Any]], values: list[int]) -> None:
    ours, theirs = compiled(*rules, rule("file_setattr"), architectures=ARCHES), judged(rules)
    for arch, column, bit in ((X86_64, "x86_64", 0), (I386, "x86", 0), (X86_64, "x32", X32)):
        for name in plain:
            number = NUMBERS[column][name] | bit
            assert run(ours, arch, number, *values) == run(theirs, arch, number, *values), (column, name)


@pytest.mark.skipif(_LIBRARY is None, reason="libseccomp is not installed")
@pytest.mark.parametrize(
    ("column", "arch"), [("x86_64", X86_64), ("x86", I386), ("aarch64", AARCH64), ("arm", ARM)]
)
def test_same_numbers_as_libseccomp(column: str, arch: int) -> None:
    """Every call that both know (libseccomp gives negative numbers to what an architecture lacks)."""
    library = ctypes.CDLL(_LIBRARY)
    different = {}
    for name, number in NUMBERS[column].items():
        theirs = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(arch), name.encode())
        if theirs >= 0 and theirs & ~X32 != number:
            different[name] = (number, theirs)
    assert different == {}


# --- in the kernel


def confined(program: bytes, action: Callable[[], object], *, no_new_privileges: bool = True) -> int:
    """The error number that `action` meets under the filter, 0 if none; negative for the signal that ended
    it.
    """
    pid = os.fork()
    if pid == 0:
        try:
            if no_new_privileges:
                linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.load(program)
            action()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.kernel
def test_kernel_takes_and_applies_the_default_profile() -> None:
    program = seccomp.compile(seccomp.default_profile(frozenset(DEFAULT)))
    assert confined(program, os.getpid) == 0
    assert confined(program, os.getpid, no_new_privileges=False) == 0
    assert confined(program, lambda: linux.unshare(linux.CLONE_NEWUSER)) == errno.EPERM
    assert confined(program, linux.join_session_keyring) == errno.EPERM
    assert confined(program, lambda: linux.syscall(linux.NR_CLONE3, None, 0)) == errno.ENOSYS
    assert confined(program, lambda: linux.syscall(5000)) == errno.ENOSYS


@pytest.mark.kernel
def test_kernel_compares_arguments_and_kills() -> None:
    text = profile(
        rule("kill", action="ERRNO", errnoRet=errno.EDOM, args=[arg(1, "EQ", 0)]),
        rule("getpriority", action="KILL_PROCESS"),
        default="ALLOW",
    )
    program = seccomp.compile(text)
    assert confined(program, lambda: os.kill(os.getpid(), 0)) == errno.EDOM
    assert confined(program, lambda: os.kill(os.getpid(), 15)) == -15
    assert confined(program, lambda: os.getpriority(os.PRIO_PROCESS, 0)) == -31


def test_profile_is_plain_json() -> None:
    text = seccomp.default_profile(frozenset(DEFAULT))
    assert json.loads(json.dumps(text)) == text
