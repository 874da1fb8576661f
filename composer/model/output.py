"""The dictionary that `config` prints, and its two texts.

`shape` brings the merged tree into the printed normal form by the table: order, types, nothing that says
nothing. `yaml_text` and `json_text` write it as `docker compose config` does, so that outputs can be
compared as text.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Protocol

from composer.model import fields, units
from composer.model.kinds import OMIT, Misfit, nearest, raw
from composer.model.tree import scalar
from composer.model.units import Timestamp

Path = tuple[str | int, ...]


class Wrong(Protocol):
    """Hears what does not fit: where, a sentence, and what to do about it."""

    def __call__(self, path: Path, message: str, hint: str | None = None) -> Any: ...


def shape(value: Any, node: fields.Node, wrong: Wrong, path: Path = ()) -> Any:
    """`value` in normal form, OMIT when nothing is left. `wrong` hears what does not fit."""
    kind: Any = node.field.kind if node.field else fields.STRUCT
    if kind is fields.STRUCT or kind is fields.PART:
        if value is None:
            return OMIT
        if not isinstance(value, dict):
            wrong(path, "must be a mapping")
            return OMIT
        return _struct(value, node, wrong, path) or (OMIT if kind is fields.PART else {})
    if kind is fields.MAP or kind is fields.NAMES:
        return _map(value, node, wrong, path, None if kind is fields.NAMES else {})
    if kind is fields.LIST:
        return _list(value, node, wrong, path)
    try:
        return kind(value)
    except Misfit as misfit:
        for one in misfit.each:
            wrong((*path, *one.below), one.message)
        return OMIT


def _struct(value: dict[str, Any], node: fields.Node, wrong: Wrong, path: Path) -> dict[str, Any]:
    shaped = {}
    known = node.children
    for key, below in known.items():
        if key in value:
            item = shape(value[key], below, wrong, (*path, key))
            if item is not OMIT:
                shaped[key] = item
    for key in units.sorted_keys(key for key in value if key not in known):
        if key.startswith("x-"):
            shaped[key] = raw(value[key])
        else:
            wrong((*path, key), "is not a known key", nearest(key, known) or "start your own keys with x-")
    return shaped


def _map(value: Any, node: fields.Node, wrong: Wrong, path: Path, nothing: Any) -> Any:
    if value is None:
        return OMIT
    if not isinstance(value, dict):
        wrong(path, "must be a mapping")
        return OMIT
    assert node.any is not None
    shaped = {}
    for key in units.sorted_keys(value):
        item = shape(value[key], node.any, wrong, (*path, key))
        shaped[key] = nothing if item is OMIT else item
    return shaped or OMIT


def _list(value: Any, node: fields.Node, wrong: Wrong, path: Path) -> Any:
    if value is None:
        return OMIT
    if not isinstance(value, list):
        wrong(path, "must be a list")
        return OMIT
    assert node.any is not None
    shaped = (shape(item, node.any, wrong, (*path, index)) for index, item in enumerate(value))
    return [item for item in shaped if item is not OMIT] or OMIT


# Text.

_NOT_PLAIN = re.compile(r"\A(?:[-?:](?: |\Z)|[#,\[\]{}&*!|>'\"%@` ]|---|\.\.\.)|:(?: |\Z)| #| \Z")
_WIDTH = 80
_OLD_WORDS = {
    form for word in ("y", "yes", "on", "n", "no", "off") for form in (word, word.title(), word.upper())
}
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
_ESCAPES = {"\0": "0", "\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r"}
_ESCAPES |= {"\x1b": "e", '"': '"', "\\": "\\", "\x85": "N", "\xa0": "_", "\u2028": "L", "\u2029": "P"}


def _has_special(text: str) -> bool:
    if text.isascii():
        return not text.isprintable() and not text.replace("\n", "").replace("\t", "").isprintable()
    return any(map(_is_special, text))


def _is_special(char: str) -> bool:
    """What YAML only shows as an escape. Docker Compose escapes what is beyond the basic plane, too."""
    if char < "\xa0":
        return not (" " <= char <= "~" or char in "\n\t")
    return char in "\u2028\u2029\ufeff\ufffe\uffff" or "\ud800" <= char <= "\udfff" or char > "\uffff"


def yaml_text(config: dict[str, Any]) -> str:
    """YAML, indented by two, lists below their key indented too."""
    lines: list[str] = []
    _yaml_map(config, "", lines, "")
    return "\n".join(lines) + "\n" if lines else "{}\n"


def _yaml_map(value: dict[str, Any], indent: str, lines: list[str], first: str) -> None:
    for key, item in value.items():
        lead = first or indent
        first = ""
        _yaml_item(item, f"{lead}{_line_text(key)}:".replace("$", "$$"), indent, lines)


def _yaml_item(item: Any, head: str, indent: str, lines: list[str]) -> None:
    if isinstance(item, dict):
        lines.append(f"{head} {{}}" if not item else head)
        if item:
            _yaml_map(item, indent + "  ", lines, "")
    elif isinstance(item, list):
        lines.append(f"{head} []" if not item else head)
        _yaml_list(item, indent + "  ", lines, "")
    else:
        lines.append(_yaml_scalar(f"{head} ", item, indent))


def _yaml_list(value: list[Any], indent: str, lines: list[str], first: str) -> None:
    for item in value:
        lead = (first or indent) + "- "
        first = ""
        if isinstance(item, dict) and item:
            _yaml_map(item, indent + "  ", lines, lead)
        elif isinstance(item, list) and item:
            _yaml_list(item, indent + "  ", lines, lead)
        elif isinstance(item, dict | list):
            lines.append(lead + ("{}" if isinstance(item, dict) else "[]"))
        else:
            lines.append(_yaml_scalar(lead, item, indent))


def _yaml_scalar(lead: str, value: Any, indent: str) -> str:
    """The line (or lines) of a value; `lead` is what stands before it, with every $ doubled already."""
    if isinstance(value, str) and not isinstance(value, Timestamp):
        text = _string_text(value, indent)
        if len(lead) + len(text) > _WIDTH and "\n" not in text:
            text = _folded(text, len(lead.replace("$$", "$")), indent + "  ")
        return lead + text.replace("$", "$$")
    if value is None:
        return f"{lead}null"
    if isinstance(value, bool):
        return f"{lead}true" if value else f"{lead}false"
    return lead + (units.float_text(value) if isinstance(value, float) else str(value))


def _folded(text: str, column: int, indent: str) -> str:
    """A line beyond the width breaks at its next single space."""
    quote = text[0] if text[0] in "'\"" else ""
    chars: list[str] = []
    for i, char in enumerate(text):
        alone = char == " " and text[i - 1] != " " and (text[i + 1] != " " or quote == '"')
        if alone and column > _WIDTH and not (quote and (i == 1 or i == len(text) - 2)):
            chars.append(f"\n{indent}" + ("\\" if text[i + 1] == " " else ""))
            column = len(indent)
        else:
            chars.append(char)
            column += 1
    return "".join(chars)


def _string_text(text: str, indent: str) -> str:
    if "\n" in text:
        double = " \n" in text or text[-1] == " " or text.isspace() or _has_special(text)
        return _double_quoted(text) if double else _block_text(text, indent)
    return _line_text(text)


@lru_cache(maxsize=4096)
def _line_text(text: str) -> str:
    """Text on one line: plain where YAML would read it back as the same text, else quoted."""
    read = scalar(text)
    if (
        "\t" in text
        or "\n" in text
        or not isinstance(read, str)
        or isinstance(read, Timestamp)
        or _has_special(text)
    ):
        return _double_quoted(text)
    if text in _OLD_WORDS or text == "<<" or _BASE_60.match(text) or _NOT_PLAIN.search(text):
        return "'" + text.replace("'", "''") + "'"
    return text


def _double_quoted(text: str) -> str:
    chars = []
    for char in text:
        if char in _ESCAPES:
            chars.append("\\" + _ESCAPES[char])
        elif _is_special(char):
            code = ord(char)
            chars.append(
                f"\\x{code:02X}" if code < 256 else f"\\u{code:04X}" if code < 65536 else f"\\U{code:08X}"
            )
        else:
            chars.append(char)
    return '"' + "".join(chars) + '"'


def _block_text(text: str, indent: str) -> str:
    """A literal block; the sign after | keeps or strips the last line breaks."""
    body = text.rstrip("\n")
    ends = len(text) - len(body)
    sign = "-" if ends == 0 else "+" if ends > 1 or not body else ""
    lead = "2" if text[0] == " " else ""
    lines = [f"{indent}  {line}" if line else "" for line in text.split("\n")]
    if ends:
        lines = lines[:-1]
    return f"|{lead}{sign}\n" + "\n".join(lines)


def json_text(config: dict[str, Any]) -> str:
    """JSON, indented by two. It differs from the YAML where Docker Compose's does."""
    text = json.dumps(_json_form(config), indent=2, ensure_ascii=False)
    for char, code in (
        ("&", "\\u0026"),
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
        ("$", "$$"),
    ):
        text = text.replace(char, code)
    return text


def _json_form(config: dict[str, Any]) -> dict[str, Any]:
    """Extensions only at the top, no models, and some things are there even when they say nothing."""
    table = fields.tree()
    form = {
        key: _json_value(config[key], table.children.get(key)) for key in sorted(config) if key != "models"
    }
    for section in ("services", "networks", "volumes", "secrets", "configs"):
        if section in form:
            form[section] = {name: _without_extensions(form[section][name]) for name in sorted(form[section])}
    service, network = (table.children[key].any for key in ("services", "networks"))
    assert service is not None and network is not None
    form["services"] = {name: _json_service(one, service) for name, one in form.get("services", {}).items()}
    for name, one in form.get("networks", {}).items():
        form["networks"][name] = _with(one, network, ipam={})
    return form


def _with(value: dict[str, Any], node: fields.Node, **defaults: Any) -> dict[str, Any]:
    """`value` and what it lacks of `defaults`, in the order of the table."""
    full = {**defaults, **value}
    return {key: full[key] for key in node.children if key in full}


def _json_ulimits(value: dict[str, Any]) -> None:
    """A limit of zero is left out."""
    for name, limit in value.get("ulimits", {}).items():
        if isinstance(limit, dict):
            value["ulimits"][name] = {key: number for key, number in limit.items() if number}


def _json_service(service: dict[str, Any], node: fields.Node) -> dict[str, Any]:
    service = _with(service, node, command=None, entrypoint=None)
    if "deploy" in service:
        service["deploy"] = _with(service["deploy"], node.children["deploy"], resources={}, placement={})
    for key in ("pre_start", "post_start", "pre_stop"):
        below = node.children[key].any
        assert below is not None
        always = {"command": None, "entrypoint": None} if key == "pre_start" else {"command": None}
        if key in service:
            service[key] = [_with(step, below, **always) for step in service[key]]
    for one in (service, service.get("build", {}), *service.get("pre_start", ())):
        _json_ulimits(one)
        _json_blkio(one)
    if "watch" in service.get("develop", {}):
        below = node.children["develop"].children["watch"].any
        assert below is not None
        rules = [
            rule | {"exec": {"command": None} | rule.get("exec", {})} for rule in service["develop"]["watch"]
        ]
        service["develop"]["watch"] = [_with(rule, below) for rule in rules]
    return service


def _json_blkio(container: dict[str, Any]) -> None:
    """Docker Compose writes the keys of these entries with a capital."""
    for name, values in container.get("blkio_config", {}).items():
        if isinstance(values, list):
            container["blkio_config"][name] = [{key.title(): v for key, v in one.items()} for one in values]


def _json_value(value: Any, node: fields.Node | None) -> Any:
    """Keys of mappings sorted by code point, whole numbers without a fraction."""
    if isinstance(value, dict):
        keys = value if node and node.children else sorted(value)
        below = {key: node and (node.children.get(key) or node.any) for key in keys}
        return {key: _json_value(value[key], below[key]) for key in keys}
    if isinstance(value, list):
        return [_json_value(item, node and node.any) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value


def _without_extensions(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_extensions(item) for key, item in value.items() if not key.startswith("x-")}
    return [_without_extensions(item) for item in value] if isinstance(value, list) else value
