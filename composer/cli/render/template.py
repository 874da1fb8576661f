"""`--format` as Docker has it: `table`, `json`, or a Go template of fields, `{{.Name}}\\t{{json .Labels}}`.

Fields, `json`, `upper`, `lower`, `table` at the start, and text: what scripts use. Anything else of Go's
language is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from composer.cli.render.table import table
from composer.errors import UsageError

FIELD = re.compile(r"\{\{-?\s*(?:(json|upper|lower)\s+)?\.(\w*)\s*-?\}\}")
ESCAPES = {"\\t": "\t", "\\n": "\n"}


def render(template: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row; with `table ` in front, aligned under the fields' names. Raises UsageError."""
    if "{{" not in template:
        from composer.cli.grammar import refused

        raise refused("--format", template, "none of table, json, or a template", "as in '{{.Name}}'")
    for written, meant in ESCAPES.items():
        template = template.replace(written, meant)
    if template.startswith("table "):
        cells = template.removeprefix("table ").split("\t")
        heads = [head(cell) for cell in cells]
        return table(heads, [[fill(cell, row) for cell in cells] for row in rows])
    return "\n".join(fill(template, row) for row in rows)


def head(cell: str) -> str:
    names = [name for _, name in FIELD.findall(cell)]
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).upper() for name in names)


def fill(template: str, row: Mapping[str, Any]) -> str:
    text = FIELD.sub(lambda match: value(match[1], match[2], row), template)
    if "{{" in text and "{{" in template and FIELD.sub("", template).count("{{"):
        wrong = FIELD.sub("", template)
        raise UsageError(
            f"--format does not understand {wrong[wrong.index('{{') :]!r}",
            hint="fields like {{.Name}} and {{json .Name}} work, and --format json gives everything",
        )
    return text


def value(function: str, name: str, row: Mapping[str, Any]) -> str:
    if name and name not in row:
        raise UsageError(f"--format: there is no field {name}", hint=f"there are {', '.join(sorted(row))}")
    content = row[name] if name else dict(row)
    if function == "json":
        return json.dumps(content)
    text = content if isinstance(content, str) else "" if content is None else json.dumps(content)
    return {"upper": text.upper(), "lower": text.lower()}.get(function, text)
