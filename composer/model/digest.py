"""Stacks as canonical JSON and back, and what tells one service from its earlier self.

`dump` and `load_stack` are exact inverses for trees of `Value`. Canonical: keys sorted, fields at their
default left out, no spaces; equal trees have equal bytes.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from composer.model import stack as model
from composer.model.stack import FrozenMap, Service, Stack
from composer.value import Value


def to_json(value: Any) -> Any:
    """A tree of values as plain JSON data; fields that hold their default are left out."""
    if isinstance(value, Value):
        defaults = value.__defaults__
        return {
            name: to_json(item)
            for name, item in value.__dict__.items()
            if name not in defaults or item != defaults[name] or type(item) is not type(defaults[name])
        }
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def from_json(kind: Any, data: Any) -> Any:
    """The inverse of `to_json` for a value of the annotated type `kind`."""
    return _reader(kind)(data)


def dump(value: Value) -> bytes:
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def load_stack(data: bytes) -> Stack:
    """The stack that `dump` wrote. ValueError when the bytes are not one."""
    try:
        stack: Stack = from_json(Stack, json.loads(data.decode("utf-8", "surrogatepass")))
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a stack: {error}") from error
    return stack


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return {
        name: _reader(hint)
        for name, hint in typing.get_type_hints(kind, vars(model)).items()
        if name[0] != "_"
    }


@cache
def _reader(kind: Any) -> Any:
    """The function that reads one annotated type back."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = _reader(next(argument for argument in arguments if argument is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda data: tuple([item(one) for one in data])
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        value = _reader(arguments[1])
        return lambda data: FrozenMap({key: value(one) for key, one in data.items()})
    if isinstance(kind, type) and issubclass(kind, Value):
        record: Any = kind

        def read(data: Any) -> Any:
            fields = _hints(record)  # looked up late: a service holds steps that hold a service
            return record(**{name: fields[name](item) for name, item in data.items()})

        return read
    if kind is float:
        return float
    return _frozen if kind is Any else lambda data: data


def _frozen(data: Any) -> Any:
    """Free-form data (extensions) with tuples and frozen maps instead of lists and dictionaries."""
    if isinstance(data, dict):
        return FrozenMap({key: _frozen(item) for key, item in data.items()})
    return tuple(_frozen(item) for item in data) if isinstance(data, list | tuple) else data


frozen = _frozen


def _hash(data: Any) -> str:
    import hashlib  # 4 ms, and not every command hashes

    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def service_digests(stack: Stack) -> Mapping[str, Mapping[str, str]]:
    """For every service, the hash of every field that is not at its default."""
    return {name: _digests(service) for name, service in stack.services.items()}


def _digests(service: Service) -> dict[str, str]:
    return {name: _hash(item) for name, item in to_json(service).items()}


def config_hash(stack: Stack, service: str) -> str:
    """One hash for everything that one service says."""
    return _hash(to_json(stack.services[service]))
