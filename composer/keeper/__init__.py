"""The process that must not die: forks containers, reaps them, drains their output, holds descriptors.

Standard library and composer.runtime only. It knows no stacks, YAML or networks.
"""

LIFE_FD, KEEPER_FD, API_FD = 3, 4, 5
"""Where a keeper finds, at its start, the locked life file and its two listening sockets."""
