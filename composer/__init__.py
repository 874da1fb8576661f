"""composer turns a Compose stack file into running containers, without a daemon."""

__version__ = "0.1.0"
