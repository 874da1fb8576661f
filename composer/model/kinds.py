"""What a field's value may be, and how it stands in the normal form that `config` prints.

Each kind is a function: value in, normal form out, `OMIT` when nothing is left to say, `Misfit` when it
does not fit. Kinds know one value; which field has which kind is the table's business (`fields.py`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from composer.model import units
from composer.model.units import Timestamp

Kind = Callable[[Any], Any]

OMIT: Any = type("Omit", (), {"__repr__": lambda self: "OMIT"})()


_LONGEST_COMPARED = 100
_MOST_COMPARED = 300
_MOST_CHANGED = 6  # letters more or less


class Misfit(ValueError):
    """The value cannot be what the field needs. The text is a sentence without a full stop.

    `below`: where in the value it is wrong, if not all of it is. `each`: all that is wrong with it.
    """

    def __init__(self, message: str, below: tuple[str | int, ...] = (), each: Iterable[Misfit] = ()) -> None:
        super().__init__(message)
        self.message, self.below = message, below
        self.each = tuple(each) or (self,)


def fitted(items: Iterable[tuple[str | int, Any]], make: Callable[[Any], Any]) -> list[Any]:
    """`make` of every item. Misfit: with all that do not fit, by their keys or indices."""
    found, wrong = [], []
    for key, item in items:
        try:
            found.append(make(item))
        except Misfit as misfit:
            wrong.append(Misfit(misfit.message, (key, *misfit.below)))
    if wrong:
        raise Misfit(wrong[0].message, wrong[0].below, wrong)
    return found


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """A hint with the known name that looks most like `name`, from 0 (any) to 1 (only the same)."""
    if len(name) > _LONGEST_COMPARED:
        return None
    from difflib import get_close_matches  # 5 ms, and only for mistakes

    candidates = (one for one in known if abs(len(one) - len(name)) <= _MOST_CHANGED)
    found = get_close_matches(name, list(islice(candidates, _MOST_COMPARED)), 1, likeness)
    return f"did you mean `{found[0]}`?" if found else None


def text_of(value: Any) -> str:
    """A scalar as Compose writes it where it needs text: `1.50` is `1.5`, `true` is `true`."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return units.float_text(value)
    if isinstance(value, list):
        return "[" + " ".join(text_of(item) for item in value) + "]"
    return "<nil>" if value is None else str(value)


def _wanted(what: str, value: Any) -> Misfit:
    if isinstance(value, dict | list):
        shown = "a mapping" if isinstance(value, dict) else "a list"
    else:
        shown = f"`{text_of(value)}`" if value is not None else "nothing"
    return Misfit(f"must be {what}, not {shown}")


# Casts: text to the type that the field needs, right after interpolation, so that ${PORT} can be a number.


def to_int(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    digits = value[1:] if value[:1] in ("+", "-") else value
    if not (digits.isascii() and digits.isdigit()):
        raise _wanted("a whole number", value)
    number = int(value)
    if not -(1 << 63) <= number < 1 << 63:
        raise Misfit(f"`{value}` is out of range")
    return number


def to_float(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if "_" in value or value != value.strip() or not math.isfinite(number := float(value)):
            raise ValueError
        return number
    except ValueError:
        raise _wanted("a number", value) from None


def to_bool(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    word = value.lower()
    if word in ("true", "y", "yes", "on"):
        return True
    if word in ("false", "n", "no", "off"):
        return False
    raise _wanted("true or false", value)


# Kinds of scalars.


def kept(kind: Kind, nothing: Any) -> Kind:
    """As `kind`, but `nothing` instead of nothing."""

    def of(value: Any) -> Any:
        found = kind(value)
        return nothing if found is OMIT else found

    return of


def _no_date(value: str) -> str:
    if isinstance(value, Timestamp):
        raise Misfit("must be text, but without quotes this is a date")
    return value


def string(value: Any) -> Any:
    if value is None or value == "":
        return OMIT
    if isinstance(value, str):
        return _no_date(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _wanted("text", value)


def boolean(value: Any) -> Any:
    """False is the default and is left out."""
    return optional_boolean(value) or OMIT


def optional_boolean(value: Any) -> Any:
    if value is None:
        return OMIT
    value = to_bool(value)
    if isinstance(value, bool):
        return value
    raise _wanted("true or false", value)


def opt_out(value: Any) -> Any:
    """True is the default and is left out."""
    value = optional_boolean(value)
    return OMIT if value is True else value


def optional_integer(value: Any) -> Any:
    if value is None:
        return OMIT
    value = to_int(value)
    if isinstance(value, float) and value == value and abs(value) < 1 << 63:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wanted("a whole number", value)
    return value


def integer(value: Any) -> Any:
    """Zero is the default and is left out."""
    return optional_integer(value) or OMIT


def unsigned(value: Any) -> Any:
    value = optional_integer(value)
    if value is not OMIT and value < 0:
        raise Misfit(f"must not be negative, `{value}` is")
    return value


def natural(value: Any) -> Any:
    """As `unsigned`, but never text, and zero is the default."""
    if isinstance(value, str):
        raise _wanted("a whole number", value)
    return unsigned(value) or OMIT


def is_address(text: str) -> bool:
    import ipaddress  # 2 ms, and few files name addresses

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def address(value: Any) -> Any:
    if value is None:
        return OMIT
    if not isinstance(value, str) or not is_address(value):
        raise Misfit(f"`{text_of(value)}` is not an IP address")
    return value


def number(value: Any) -> Any:
    """A 32-bit float, as Compose keeps CPUs and ratios."""
    if value is None:
        return OMIT
    value = to_float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wanted("a number", value)
    try:
        packed = struct.pack("f", value)
    except OverflowError:
        raise Misfit(f"`{value}` is out of range") from None
    if value == 0:
        return OMIT
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("f", short) == packed:
            return int(short) if short.is_integer() else short
    return float(value)


def size(value: Any) -> Any:
    """Bytes, printed as text."""
    if value is None:
        return OMIT
    if isinstance(value, str):
        try:
            value = units.size(value)
        except ValueError as error:
            raise Misfit(str(error)) from None
    if isinstance(value, bool) or not isinstance(value, int):
        return OMIT
    if abs(value) >= 1 << 63:
        raise Misfit(f"`{value}` is too large a size")
    return str(value) if value else OMIT


def optional_duration(value: Any) -> Any:
    if value is None:
        return OMIT
    try:
        return units.duration_text(units.duration(text_of(value)))
    except ValueError as error:
        raise Misfit(str(error)) from None


def duration(value: Any) -> Any:
    text = optional_duration(value)
    return OMIT if text == "0s" else text


def file_mode(value: Any) -> Any:
    """Text is octal, a number is the mode itself."""
    if value is None:
        return OMIT
    if isinstance(value, str):
        try:
            if "_" in value or value != value.strip() or "o" in value.lower():
                raise ValueError
            value = int(value, 8)
        except ValueError:
            raise Misfit(f"`{value}` is not an octal file mode like 0440") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wanted("a file mode like 0440", value)
    return f"0{value:o}" if value >= 0 else f"0-{-value:o}"


def device_count(value: Any) -> Any:
    if isinstance(value, str):
        if value.lower() == "all":
            return -1
        try:
            value = to_int(value)
        except Misfit:
            raise Misfit(f"must be `all` or a number, not `{value}`") from None
    if isinstance(value, float):
        raise _wanted("`all` or a whole number", value)
    return integer(value)


def raw(value: Any) -> Any:
    """Kept as it is, keys sorted."""
    if isinstance(value, dict):
        return {key: raw(value[key]) for key in units.sorted_keys(value)}
    if isinstance(value, list):
        return [raw(item) for item in value]
    return value.standard() if isinstance(value, Timestamp) else value


def unsupported(value: Any) -> Any:
    raise Misfit("is not supported by composer")


# Kinds of collections of text.


def command(value: Any) -> Any:
    """Text is split as a shell would; None is "not said", an empty list is "said: nothing"."""
    if value is None:
        return OMIT
    if isinstance(value, str):
        try:
            return units.shell_words(value)
        except ValueError as error:
            raise Misfit(str(error)) from None
    return _list(value, "text or a list of text")


def health_test(value: Any) -> Any:
    if isinstance(value, str):
        return ["CMD-SHELL", _no_date(value)]
    return (_list(value, "text or a list of text") if value is not None else None) or OMIT


def _list(value: Any, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wanted(
            what, value if not isinstance(value, list) else next(i for i in value if type(i) is not str)
        )
    return [_no_date(item) for item in value]


def strings(value: Any) -> Any:
    if value is None:
        return OMIT
    if isinstance(value, str):
        return [_no_date(value)]
    return _list(value, "a list of text") or OMIT


def texts(value: Any) -> Any:
    """A list whose numbers are taken as text."""
    if value is None:
        return OMIT
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _wanted("a list", value)
    for item in value:
        if isinstance(item, float | Timestamp):
            raise _wanted("text or a whole number", item)
    return [text_of(item) for item in value] or OMIT


def mapping(value: Any) -> Any:
    """KEY=VALUE pairs as a list or mapping; what has no value gets the empty text."""
    pairs = _pairs(value)
    return {
        key: text_of("" if pairs[key] is None else pairs[key]) for key in units.sorted_keys(pairs)
    } or OMIT


def environment(value: Any) -> Any:
    """As `mapping`, but what has no value stays without one."""
    pairs = _pairs(value)
    if isinstance(value, list):
        fitted(enumerate(value), _variable)
    return {
        key: None if pairs[key] is None else text_of(pairs[key]) for key in units.sorted_keys(pairs)
    } or OMIT


def _variable(item: Any) -> None:
    key = text_of(item).partition("=")[0]
    if key[-1:].isspace():
        raise Misfit(f"the variable `{key}` has a space before the =")


def _pairs(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        raise _wanted("a mapping or a list of KEY=VALUE", value)
    pairs: dict[str, Any] = {}
    for item in value:
        key, equals, rest = text_of(item).partition("=")
        pairs[key] = rest if equals else None
    return pairs


def options(value: Any) -> Any:
    if value is None:
        return OMIT
    if not isinstance(value, dict):
        raise _wanted("a mapping", value)
    return mapping(value)


def provider_options(value: Any) -> Any:
    if value is None:
        return OMIT
    if not isinstance(value, dict):
        raise _wanted("a mapping", value)
    many = {key: value[key] if isinstance(value[key], list) else [value[key]] for key in value}
    return {key: [text_of(item) for item in many[key]] for key in units.sorted_keys(many)} or OMIT


def hosts(value: Any) -> Any:
    """`host=address` lines, sorted; a host may have several addresses."""
    found: dict[str, list[str]] = {}
    if isinstance(value, dict):
        fitted(((host, host) for host in value), _host_name)
        for host, address in value.items():
            found[host] = [text_of(one) for one in address] if isinstance(address, list) else [address or ""]
    elif isinstance(value, list):
        for host, addresses in fitted(enumerate(value), _host_line):
            found.setdefault(host, []).extend(addresses)
    elif value is not None:
        raise _wanted("a mapping or a list of host=address", value)
    lines = [f"{host}={_unbracketed(one)}" for host, addresses in found.items() for one in addresses]
    return sorted(lines) or OMIT


def _host_line(item: Any) -> tuple[str, list[str]]:
    line = text_of(item)
    host, separator, address = line.partition("=" if "=" in line else ":")
    if not separator:
        raise Misfit(f"`{line}` has no address; write host=address")
    _host_name(host)
    return host, address.split(",")


def _host_name(host: str) -> None:
    if not host or ":" in host or "=" in host:
        raise Misfit(f"`{host}` is not a host name")


def _unbracketed(address: str) -> str:
    return address[1:-1] if len(address) > 2 and address[0] == "[" and address[-1] == "]" else address


def ulimit(value: Any) -> Any:
    if isinstance(value, dict):
        return {"soft": _limit(value.get("soft", 0)), "hard": _limit(value.get("hard", 0))}
    return _limit(value) or {"soft": 0, "hard": 0}


def _limit(value: Any) -> int:
    found = optional_integer(value)
    return 0 if found is OMIT else int(found)


def ssh_keys(value: Any) -> Any:
    """`default`, or `id: path`."""
    pairs = _pairs(value)
    return [k if pairs[k] in (None, "") else f"{k}: {text_of(pairs[k])}" for k in sorted(pairs)] or OMIT
