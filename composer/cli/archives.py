"""`composer image save|load|import|check`: images as files, and whether the store is whole."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.errors import ComposerError, UsageError
from composer.images.reference import parse
from composer.images.store import Store

VERBS = {
    "save": Verb(
        "save",
        "Write images to an archive",
        (
            Flag("oci", "bool", "In the OCI layout instead of Docker's form"),
            Flag("output", "str", "To a file instead of standard output", "o", metavar="FILE"),
        ),
        (Positional("IMAGE", "Names or ids", many=True, complete="image"),),
        examples=(("save -o all.tar shop db:16", "two images"),),
    ),
    "load": Verb(
        "load",
        "Take in images of an archive",
        (
            Flag("input", "str", "From a file instead of standard input", "i", metavar="FILE"),
            Flag("quiet", "bool", "Say nothing", "q"),
        ),
    ),
    "import": Verb(
        "import",
        "Make an image of an archive of files",
        (
            Flag(
                "change", "list", "A Dockerfile instruction to apply (repeatable)", "c", metavar="INSTRUCTION"
            ),
            Flag("message", "str", "A message for its history", "m"),
        ),
        (
            Positional("FILE", "The archive, or - for standard input"),
            Positional("REPOSITORY[:TAG]", "Its name", required=False),
        ),
    ),
    "check": Verb("check", "Read every byte of the store and say what is wrong"),
}


def run_save(context: Context, *, oci: bool, output: str, image: list[str]) -> int:
    store = Store(context.paths)
    with written(output) as file:
        store.save(image, file, oci=oci)
    return 0


@contextmanager
def written(path: str) -> Iterator[BinaryIO]:
    """A file that is there whole or not at all; standard output without a path. Raises ComposerError."""
    if not path:
        if sys.stdout.isatty():
            raise UsageError("an archive is nothing for a terminal", hint="say `-o FILE`, or pipe it on")
        yield sys.stdout.buffer
        return
    partial = f"{path}.partial"
    try:
        with open(partial, "xb") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise ComposerError(f"{path}: {error.strerror}") from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


@contextmanager
def given(path: str) -> Iterator[BinaryIO]:
    """A file, or standard input. Raises ComposerError."""
    if path in ("", "-"):
        if sys.stdin.isatty():
            raise UsageError("an archive is wanted, and standard input is a terminal", hint="say `-i FILE`")
        yield sys.stdin.buffer
        return
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise ComposerError(f"{path}: {error.strerror}") from error


def run_load(context: Context, *, input: str, quiet: bool) -> int:
    with given(input) as file:
        images = Store(context.paths).load(file)
    for image in images if not quiet else ():
        print(
            f"Loaded image: {parse(image.reference).familiar}"
            if image.reference
            else f"Loaded image ID: {image.id}"
        )
    return 0


def run_import(context: Context, *, change: list[str], message: str, file: str, repository: str) -> int:
    with given(file) as source:
        image = Store(context.paths).import_(source, repository or None, changes=change, message=message)
    print(image.id)
    return 0


def run_check(context: Context) -> int:
    wrong = Store(context.paths).check()
    for sentence in wrong:
        print(sentence)
    if not wrong:
        print("the store is whole")
    return 1 if wrong else 0
