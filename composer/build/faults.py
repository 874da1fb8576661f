"""What can be wrong with a Dockerfile or a build, and how it is told from process to process. Pure."""

from __future__ import annotations

from typing import Any

from composer.errors import Complaint, ComposerError, ImageError, Place, StackFileError


class DockerfileError(StackFileError, ImageError):
    """A Dockerfile is wrong, or one of its steps failed; says where."""


def fault(place: Place, message: str, hint: str | None = None) -> DockerfileError:
    return DockerfileError([Complaint(message, place, hint=hint)])


def packed(error: ComposerError) -> dict[str, Any]:
    """An error as plain data."""
    complaints = [
        [one.message, [one.place.file, one.place.line, one.place.column] if one.place else None, one.hint]
        for one in getattr(error, "complaints", ())
    ]
    return {"message": error.message, "hint": error.hint, "complaints": complaints}


def unpacked(data: dict[str, Any]) -> ComposerError:
    """The error that `packed` was given, as one of this room."""
    if data["complaints"]:
        return DockerfileError(
            [
                Complaint(message, Place(*place) if place else None, hint=hint)
                for message, place, hint in data["complaints"]
            ]
        )
    return ImageError(data["message"], hint=data["hint"])
