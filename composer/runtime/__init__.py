"""The container runtime: an OCI bundle in, an isolated process out.

Standard library only; imports nothing else of composer but `oci`, so it can be used alone and forked cheaply.
"""
