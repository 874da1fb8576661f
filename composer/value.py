"""Immutable records, as frozen dataclasses are, that cost nothing to define. A leaf.

A frozen dataclass compiles its methods when the class is made: about 0.7 ms each, 25 ms for the model alone,
which is a third of what a whole command may take. `Value` does the same with shared methods.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class Value:
    """Subclass it and annotate fields, with defaults or without. Equal by class and fields; hashable."""

    __fields__: tuple[str, ...] = ()
    __defaults__: dict[str, Any] = {}  # noqa: RUF012 - replaced per class, never changed

    def __init_subclass__(cls) -> None:
        own = [name for name in cls.__annotations__ if not name.startswith("__")]
        cls.__fields__ = (*cls.__fields__, *(name for name in own if name not in cls.__fields__))
        cls.__defaults__ = cls.__defaults__ | {n: cls.__dict__[n] for n in own if n in cls.__dict__}
        cls.__match_args__ = cls.__fields__  # type: ignore[attr-defined,misc]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fields = self.__fields__
        values = self.__dict__
        values.update(self.__defaults__)
        if args:
            if len(args) > len(fields):
                raise TypeError(f"{type(self).__name__} takes {len(fields)} values, not {len(args)}")
            values.update(zip(fields, args, strict=False))
        values.update(kwargs)
        if len(values) != len(fields) or not values.keys() <= set(fields):
            missing = [name for name in fields if name not in values]
            unknown = [name for name in kwargs if name not in fields]
            raise TypeError(f"{type(self).__name__}: missing {missing}, unknown {unknown}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *(self.__dict__[name] for name in self.__fields__)))

    def __repr__(self) -> str:
        inside = ", ".join(
            f"{n}={self.__dict__[n]!r}"
            for n in self.__fields__
            if n not in self.__defaults__ or self.__dict__[n] != self.__defaults__[n]
        )
        return f"{type(self).__name__}({inside})"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})
