"""Why a program of the suite cannot pass with our runtime. What fails without a reason is a fault.

`SUITE`: of the suite itself, or of a specification that has changed since. `HERE`: of the machine that the
page was written on; elsewhere the program may pass.
"""

from __future__ import annotations

SUITE = {
    "delete_resources": "compares the addresses of two numbers (`pids.limit` became a pointer)",
    "hooks": "waits for lines that none of its own hooks writes (`post-start1` without `called`)",
    "linux_cgroups_pids": "compares the addresses of two numbers",
    "linux_cgroups_relative_pids": "compares the addresses of two numbers",
    "misc_props": "runs `/runtimetest`, which it has not put into the bundle",
    "pidfile": "kills a program that has ended (`true`) and expects no error; the program `kill` demands one",
    "poststart": "expects the container's shell to have written before the hook's shell does: a race. The "
    "hooks run when the program has been executed",
    "prestart": "expects the hooks at `start`. Since runtime-spec 1.0.2 they are part of `create`",
    "process_capabilities_fail": "wants an unknown capability to be an error. Since runtime-spec 1.0.2 it is "
    "left out, with a warning",
    "process_rlimits": "is a Go program, whose runtime raises the limit of open files before it looks",
    "start": "wants `start` to succeed without a process; its text says that it must fail. Such a container "
    "is refused at `create` already",
}
HERE = {
    "linux_cgroups_blkio": "Linux has no blkio.leaf_weight since 5.0; a limit that cannot be set is an error",
    "linux_cgroups_relative_blkio": "no blkio.leaf_weight",
    "linux_cgroups_hugetlb": "the controller is on cgroup v2 here, where it is used; the suite looks at v1",
    "linux_cgroups_relative_hugetlb": "the controller is on cgroup v2 here",
    "linux_cgroups_memory": "Linux has no limit of kernel memory since 5.16; all other limits are right",
    "linux_cgroups_relative_memory": "no limit of kernel memory",
    "linux_cgroups_network": "no net_cls and net_prio here; a limit that cannot be set is an error",
    "linux_cgroups_relative_network": "no net_cls and net_prio here",
    "linux_mount_label": "no SELinux here; a label that cannot be given is an error",
    "linux_process_apparmor_profile": "no AppArmor here; a profile that cannot be given is an error",
    "process_capabilities": "root has no CAP_SYS_RESOURCE here, so it cannot be given",
}
