"""Whether a container could be made of a service at all, asked before anything is begun. Pure."""

from __future__ import annotations

from composer.bundle import files, limits, namespaces, process, security
from composer.bundle.inputs import HostFacts
from composer.errors import ComposerError, UsageError
from composer.model.kinds import is_address
from composer.model.known import is_exposed
from composer.model.stack import Service, Stack


def check(stack: Stack, service: Service, facts: HostFacts) -> None:
    """Raises ComposerError with what stands in the way, in the words that making the container has for it."""
    try:
        process.stop_signal(service, {})
        process.working_dir(service, {})
        limits.rlimits(service, facts)
        limits.memory(service.name, service.resources, facts)
        limits.processors(service.name, service.resources, facts)
        security.options(service)
        security.capabilities(service, facts)
        namespaces.known(service)
        _addresses(service)
        _given(stack, service)
    except UsageError as error:
        raise ComposerError(error.message, hint=error.hint) from None


def _addresses(service: Service) -> None:
    """What is to be an address or a port is one."""
    for address in service.dns:
        if not is_address(address):
            raise UsageError(f"service {service.name}: dns {address!r} is not an IP address")
    for name, targets in service.extra_hosts.items():
        for target in targets:
            if target != files.GATEWAY and not is_address(target):
                what = f"extra_hosts: {target!r} of {name} is not an IP address"
                raise UsageError(f"service {service.name}: {what}", hint="host-gateway is the host's own")
    for text in service.expose:
        if not is_exposed(text):
            raise UsageError(f"service {service.name}: expose {text!r} is no port", hint="as in 80 or 53/udp")


def _given(stack: Stack, service: Service) -> None:
    """Secrets and configs of variables have a content."""
    kinds = (("secret", service.secrets, stack.secrets), ("config", service.configs, stack.configs))
    for word, grants, sources in kinds:
        for source in (sources[grant.source] for grant in grants if grant.source in sources):
            if source.environment and source.content is None:
                what = f"the variable {source.environment}, of which {word} {source.key} is made, is not set"
                raise UsageError(
                    f"service {service.name}: {what}", hint="set it, in the environment or in .env"
                )
