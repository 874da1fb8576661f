"""What can be wrong with a Dockerfile or a build. Pure."""

from __future__ import annotations

from composer.errors import Complaint, ImageError, Place, StackFileError


class DockerfileError(StackFileError, ImageError):
    """A Dockerfile is wrong, or one of its steps failed; says where."""


def fault(place: Place, message: str, hint: str | None = None) -> DockerfileError:
    return DockerfileError([Complaint(message, place, hint=hint)])
