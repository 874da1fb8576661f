"""From a service to an OCI bundle's `config.json` and the small files beside it, as Docker would make them.

Pure: no kernel, clock, environment or disk. What only the host knows (paths, numbers of devices, identities
in an image's passwd) is worked out before and comes in as `inputs`.
"""

from composer.bundle.spec import spec

__all__ = ["spec"]
