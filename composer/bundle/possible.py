"""Whether a container could be made of a service at all, asked before anything is begun. Pure."""

from __future__ import annotations

from composer.bundle import limits, namespaces, process, security
from composer.bundle.inputs import HostFacts
from composer.errors import ComposerError, UsageError
from composer.model.stack import Service, Stack


def check(stack: Stack, service: Service, facts: HostFacts) -> None:
    """Raises ComposerError with what stands in the way, in the words that making the container has for it."""
    try:
        process.stop_signal(service, {})
        limits.rlimits(service, facts)
        security.options(service)
        security.capabilities(service, facts)
        namespaces.known(service)
        _given(stack, service)
    except UsageError as error:
        raise ComposerError(error.message, hint=error.hint) from None


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
