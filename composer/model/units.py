"""Sizes, durations, dates and command lines as Compose writes them. Text in, numbers out; knows no fields."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

_INTEGER = re.compile(r"[-+]?[0-9]{1,20}(?:_[0-9]{1,20})*\Z")
_NUMBER = r"\+?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_SIZE = re.compile(rf"({_NUMBER}) ?([kKmMgGtTpP]?)(?:[iI]?[bB])?\Z")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}


def size(text: str) -> int:
    """Bytes: `64m`, `1.5g`, `1GiB`, `1 g`, all in powers of 1024. ValueError says what is wrong."""
    if _INTEGER.match(text):
        number = int(text)
    elif match := _SIZE.match(text):
        number = int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])
    else:
        raise ValueError(f"`{text}` is not a size like 512m or 1.5g")
    if abs(number) >= 1 << 63:
        raise ValueError(f"`{text}` is too large a size")
    return number


def duration(text: str) -> int:
    """Nanoseconds: `1m30s`, `1.5h`, `2d`. ValueError says what is wrong."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total, position = 0, 0
    for match in _DURATION.finditer(rest):
        if match.start() != position:
            break
        whole, _, fraction = match[1].partition(".")
        unit = _NANOSECONDS[match[2]]
        total += int(whole or 0) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        position = match.end()
    if not rest or position != len(rest):
        raise ValueError(f"`{text}` is not a duration like 30s or 1m30s")
    if total >= 1 << 63:
        raise ValueError(f"`{text}` is too long a duration")
    return -total if text[0] == "-" else total


def duration_text(nanoseconds: int) -> str:
    """The way Go prints it: `1h0m0s`, `1.5s`, `500ms`."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit, scale in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if rest < scale * 1_000:
            return f"{sign}{_decimal(rest, scale)}{unit}"
    hours, rest = divmod(rest, 3_600_000_000_000)
    minutes, rest = divmod(rest, 60_000_000_000)
    seconds = f"{_decimal(rest, 1_000_000_000)}s"
    return sign + (f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else "") + seconds


def _decimal(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    return f"{whole}.{rest:0{len(str(scale)) - 1}}".rstrip("0") if rest else str(whole)


def float_text(value: float) -> str:
    """The way Go prints a float: shortest digits, an exponent below 1e-4 and from 1e+06 on."""
    if value != value or value in (float("inf"), float("-inf")):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa[0] == "-" else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + ("" if fraction == "0" else fraction)).lstrip("0")
    point = len(whole) + int(exponent or 0)
    if whole == "0":
        point -= 1 + len(fraction) - len(fraction.lstrip("0"))
    digits = digits.rstrip("0") or "0"
    if digits == "0":
        return f"{sign}0"
    power = point - 1
    if power < -4 or power >= 6:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def shell_words(text: str) -> list[str]:
    """Words as Compose splits them: no expansion; an unquoted ; | & < > ends the command.

    Quotes and backslashes are taken away, but kept inside `…` and $(…), which are one word. ValueError:
    something is left open, or a parenthesis stands alone.
    """
    words: list[str] = []
    word: list[str] = []
    started, quote, escaped = False, "", False
    for char in text:
        if escaped:
            word.append({"t": "\t", "n": "\n"}.get(char, char))
            escaped, started = False, True
        elif char == "\\" and quote != "'":
            escaped = True
        elif char in " \t\r\n" and not quote:
            if started:
                words.append("".join(word))
            word, started = [], False
        elif char in "\"'" and quote in ("", char):
            quote, started = ("" if quote else char), started or bool(quote)
        elif char in ";&|<>" and not quote:
            started = started and not (char == ">" and word and word[0].isdigit())
            break
        else:
            quote = _bracketed(char, quote, word)
            word.append(char)
            started = started or char not in " \t\r\n"
    if quote or escaped:
        raise ValueError("the command line leaves a quote, a bracket or a backslash open")
    return [*words, "".join(word)] if started else words


def _bracketed(char: str, quote: str, word: list[str]) -> str:
    """The quote that is open after `char`: ` and $( open what the same and ) close."""
    if char == "`" and quote in ("", "`"):
        return "" if quote else char
    if char == ")" and quote in ("", ")"):
        return "" if quote else char
    if char == "(" and quote in ("", ")"):
        if quote or word[-1:] != ["$"]:
            raise ValueError("the command line has a bracket outside quotes")
        return ")"
    return quote


def sorted_keys(keys: Iterable[str]) -> list[str]:
    """Keys in the order in which `docker compose config` prints a mapping: numbers by value, letters last."""
    names = list(keys)
    if len(names) < 2:
        return names
    if all(name.isalpha() for name in names):
        return sorted(names)
    return sorted(names, key=functools.cmp_to_key(_compare))


def _compare(a: str, b: str) -> int:
    digits = False
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x == y:
            digits = x.isdigit()
            continue
        x_letter, y_letter = x.isalpha(), y.isalpha()
        if x_letter and y_letter:
            return -1 if x < y else 1
        if x_letter or y_letter:
            return -1 if (x_letter if digits else y_letter) else 1
        return _compare_numbers(a, b, i)
    return len(a) - len(b)


def _compare_numbers(a: str, b: str, i: int) -> int:
    """Both differ at `i` and neither has a letter there."""
    lead = 0
    if a[i] == "0" or b[i] == "0":
        j = i - 1
        while j >= 0 and a[j].isdigit():
            if a[j] != "0":
                lead = 1
                break
            j -= 1
    a_digits, b_digits = _digits(a, i), _digits(b, i)
    a_number, b_number = int(f"{lead}{a_digits}"), int(f"{lead}{b_digits}")
    if a_number != b_number:
        return -1 if a_number < b_number else 1
    if len(a_digits) != len(b_digits):
        return len(a_digits) - len(b_digits)
    return -1 if a[i] < b[i] else 1


def _digits(text: str, start: int) -> str:
    end = start
    while end < len(text) and text[end].isdecimal():
        end += 1
    return text[start:end]


class Timestamp(str):
    """An unquoted date, in the words in which Compose passes it on."""

    __slots__ = ()

    def standard(self) -> Timestamp:
        """The same moment as RFC 3339 has it."""
        day, time, offset, _ = self.split(" ")
        zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
        return Timestamp(f"{day}T{time}{zone}")
