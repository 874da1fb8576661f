"""The one function that makes a `config.json`, out of the pieces beside it."""

from __future__ import annotations

from typing import cast

from composer import oci
from composer.bundle import limits, mounts, namespaces, process, security
from composer.bundle.inputs import IDS, HostFacts, Image, Place
from composer.model.stack import Service, Stack

VERSION = "1.2.0"
OTHERS_VERSION = "1.0.2"
"""What other runtimes are told: crun of some years ago knows no later one, and nothing later is asked."""


def spec(stack: Stack, service: Service, place: Place, image: Image, facts: HostFacts) -> oci.Spec:
    """The OCI runtime configuration of one container. Raises UsageError for what cannot be."""
    spaces = namespaces.chosen(service, place)
    found = oci.Spec(
        ociVersion=OTHERS_VERSION if service.runtime else VERSION,
        process=_process(service, place, image, facts),
        root=oci.Root(path=place.root, readonly=service.read_only),
        mounts=mounts.mounts(service, place, facts, spaces),
        annotations=process.marks(service, stack.name, place.name, place.number),
        linux=_linux(stack, service, place, facts, spaces),
    )
    if "uts" in spaces and not spaces["uts"]:
        found["hostname"] = namespaces.hostname(service, place, facts)
        if service.domainname:
            found["domainname"] = service.domainname
    return found


def _process(service: Service, place: Place, image: Image, facts: HostFacts) -> oci.Process:
    account = place.account
    rules = security.options(service)
    hostname = namespaces.hostname(service, place, facts)
    found = oci.Process(
        terminal=service.tty,
        user=oci.User(uid=account.uid, gid=account.gid, additionalGids=list(account.groups)),
        args=process.arguments(service, image),
        env=process.environment(service, image, account, hostname),
        cwd=process.working_dir(service, image),
        capabilities=security.capability_sets(security.capabilities(service, facts)),
        rlimits=limits.rlimits(service, facts),
        noNewPrivileges=rules.no_new_privileges,
    )
    if service.resources.oom_score_adj:
        found["oomScoreAdj"] = service.resources.oom_score_adj
    profile = security.apparmor(service, rules, facts)
    if profile:
        found["apparmorProfile"] = profile
    label = security.selinux(rules, facts)[0]
    if label:
        found["selinuxLabel"] = label
    return found


def _linux(
    stack: Stack, service: Service, place: Place, facts: HostFacts, spaces: dict[str, str]
) -> oci.Linux:
    found = oci.Linux(
        namespaces=namespaces.rows(spaces),
        cgroupsPath=cgroup_path(stack, service, place),
        resources=limits.resources(service, place, facts),
        sysctl=limits.sysctls(service, spaces, facts),
        devices=list(limits.device_nodes(service, place, facts)),
    )
    if "user" in spaces:
        found["uidMappings"] = [oci.IDMapping(containerID=0, hostID=place.first_id, size=IDS)]
        found["gidMappings"] = [oci.IDMapping(containerID=0, hostID=place.first_id, size=IDS)]
    rules = security.options(service)
    label = security.selinux(rules, facts)[1]
    if label:
        found["mountLabel"] = label
    if not service.privileged and rules.paths != "unconfined":
        found["maskedPaths"] = list(security.MASKED)
        found["readonlyPaths"] = list(security.READ_ONLY)
    if place.seccomp is not None and not service.privileged:
        found["seccomp"] = cast(oci.Seccomp, place.seccomp)
    return found


def cgroup_path(stack: Stack, service: Service, place: Place) -> str:
    """`/composer/<stack>/<id>`, or below the parent the service names."""
    parent = service.cgroup_parent or f"/composer/{stack.name}"
    return f"/{parent.strip('/')}/{place.id}"
