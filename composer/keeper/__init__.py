"""The process that must not die: forks containers, reaps them, drains their output, holds descriptors.

Standard library and composer.runtime only. It knows no stacks, YAML or networks.
"""
