"""Whether a JSON document has the form that the types of `oci` say. Pure.

A value of another kind must never be taken for what it is not: a text is a list of letters to Python, and -1
as a user means "stay root" to the kernel. As engines write null for what is not set, null is as good as
absent. Unknown fields are ignored, as the specification demands.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Required, get_args, get_origin, get_type_hints, is_typeddict

from composer.runtime.errors import StepError

_NAMES = {str: "a text", bool: "true or false", int: "a whole number", list: "a list", dict: "an object"}


def shaped(value: Any, wanted: Any, field: str = "") -> Any:
    """The value, without what is null. Raises StepError naming the field."""
    if wanted is Any:
        return value
    origin = get_origin(wanted)
    if origin is Required:
        return shaped(value, get_args(wanted)[0], field)
    if origin is Annotated:
        kind, bounds = get_args(wanted)
        return _within(shaped(value, kind, field), bounds, field)
    if origin is Literal:
        if value not in get_args(wanted):
            raise _unfit(field, f"{value!r} is none of {', '.join(get_args(wanted))}")
        return value
    kind = dict if is_typeddict(wanted) else origin or wanted
    if type(value) is not kind:
        raise _unfit(field, f"expected {_NAMES[kind]}, not {_NAMES.get(type(value), value)}")
    if kind is list:
        (inner,) = get_args(wanted)
        return [shaped(item, inner, f"{field}[{place}]") for place, item in enumerate(value)]
    if kind is dict:
        return dict(_fields(value, wanted, field) if is_typeddict(wanted) else _items(value, wanted, field))
    return value


def _within(value: Any, bounds: range | tuple[str, str], field: str) -> Any:
    """A number by its range; a text by a pattern, and what that is called."""
    if isinstance(bounds, range):
        if value not in bounds:
            raise _unfit(field, f"expected {bounds.start} to {bounds.stop - 1}, not {value}")
    elif not re.match(bounds[0], value, re.DOTALL):
        raise _unfit(field, f"expected {bounds[1]}, not {value[:80]!r}")
    return value


def _fields(value: dict[str, Any], wanted: Any, field: str) -> Iterator[tuple[str, Any]]:
    types = get_type_hints(wanted, include_extras=True)
    for name, kind in types.items():
        if value.get(name) is None and (wanted.__total__ or get_origin(kind) is Required):
            raise _unfit(_join(field, name), "is missing")
    for name, item in value.items():
        if item is not None:
            yield name, shaped(item, types.get(name, Any), _join(field, name))


def _items(value: dict[str, Any], wanted: Any, field: str) -> Iterator[tuple[str, Any]]:
    _, inner = get_args(wanted)
    for name, item in value.items():
        yield name, shaped(item, inner, f"{field}[{name}]")


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _unfit(field: str, text: str) -> StepError:
    return StepError("specification", errno.EINVAL, field, text)
