"""The default seccomp profile: what a container may ask of the kernel when nobody says otherwise. Pure.

It allows what programs need, and of the rest what the container's capabilities are for; everything else
gives EPERM. It has the effect of Docker's default profile
(https://docs.docker.com/engine/security/seccomp/), told by what the calls are for. Called through
`seccomp.default_profile`.

Left out on purpose, beside what only root of the host needs: keyrings (not namespaced), io_uring and
userfaultfd (a wide way into the kernel, CVE-2023-2598 and others), new mount and namespace calls, AF_VSOCK
(reaches the host past all networks) and AF_ALG (CVE-2026-31431). `socketcall` of 32-bit x86 stays: its
arguments cannot be seen, and old C libraries have no other way to a network.
"""

from __future__ import annotations

from typing import Any

_FILES = """ access brk cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2
dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32
fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr flistxattr flock fremovexattr fsetxattr
fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek
lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open
openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice
stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64
umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect pause poll ppoll
ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4
"""
_MEMORY = """
madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2
mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
alarm capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
getitimer getpgid getpgrp getpid getppid getpriority getresgid getresgid32 getresuid getresuid32 getrlimit
get_robust_list getrusage getsid get_thread_area gettid getuid getuid32 ioprio_get ioprio_set kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open pidfd_send_signal pipe pipe2
prctl prlimit64 process_mrelease process_vm_readv process_vm_writev ptrace restart_syscall rseq rt_sigaction
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit
set_robust_list setsid set_thread_area set_tid_address setuid setuid32 sigaction signal sigaltstack
sigpending sigprocmask sigreturn sigsuspend tgkill tkill ugetrlimit uprobe uretprobe vfork wait4 waitid
waitpid
"""
_TIME = """
adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 gettimeofday nanosleep time timer_create timer_delete timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 timer_getoverrun timer_gettime
timer_gettime64 timer_settime timer_settime64 times
"""
_TALKING = """
accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open
mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv
msgsnd recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send
sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall socketpair
"""
_SYSTEM = "getrandom sysinfo uname"
# These exist on some machines only, where the C library or the processor cannot do without.
_MACHINES = """ arch_prctl arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush get_tls modify_ldt
set_tls sync_file_range2
"""
_ALWAYS = " ".join((_FILES, _WAITING, _MEMORY, _PROCESSES, _TIME, _TALKING, _SYSTEM, _MACHINES))

_BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree
        open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns statmount syslog
        umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}

# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}: new namespaces are new ways to the kernel's privileged code.
_NAMESPACES = 0x7E020000
# PER_LINUX, PER_LINUX32, each also with UNAME26, and asking (no address layout without randomness).
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_AF_ALG, _AF_VSOCK = 38, 40

_EPERM, _ENOSYS = 1, 38


def profile(capabilities: frozenset[str]) -> dict[str, Any]:
    """OCI `linux.seccomp` for a container with these capabilities (its bounding set)."""
    allowed = {*_ALWAYS.split()}
    for capability in capabilities:
        allowed.update(_BY_CAPABILITY.get(capability, "").split())
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": [
            *("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
            *("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
        ],
        "syscalls": [
            {"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"},
            *(_allow("personality", "EQ", value) for value in _PERSONALITIES),
            # Every family but two. Several conditions on one argument would each count alone, so three
            # ranges.
            _allow("socket", "LT", _AF_ALG),
            _allow("socket", "EQ", _AF_ALG + 1),
            _allow("socket", "GT", _AF_VSOCK),
            *([] if "CAP_SYS_ADMIN" in capabilities else _without_namespaces()),
        ],
    }


def _without_namespaces() -> list[dict[str, Any]]:
    return [
        _allow("clone", "MASKED_EQ", _NAMESPACES),
        # Its flags are behind a pointer. On "no such call" C libraries fall back to clone.
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
    ]


def _allow(name: str, op: str, value: int) -> dict[str, Any]:
    """By the first argument; for MASKED_EQ none of the bits may be set."""
    argument = {"index": 0, "value": value, "valueTwo": 0, "op": f"SCMP_CMP_{op}"}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
