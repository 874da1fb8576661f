"""One tree laid over another, by the rules of the table. Also: entries of a list that replace each other.

Trees are changed in place where that is safe; what is wrong raises Misfit with the path in it.
"""

from __future__ import annotations

import json
from typing import Any

from composer.model.fields import Field, Node
from composer.model.kinds import Misfit, fitted, text_of

Path = tuple[str | int, ...]


def merge(base: Any, over: Any, node: Node | None, path: Path = ()) -> Any:
    """`over` laid on `base`. Mappings merge key by key, lists append what is new, the rest is replaced."""
    rule = node.field.merge if node and node.field else "deep"
    if rule != "deep":
        return _RULES[rule](base, over, node, path)
    if over is None:
        return base
    if isinstance(base, dict):
        if not isinstance(over, dict):
            raise Misfit("is a mapping in the file before, and cannot be replaced by something else", path)
        return _mappings(base, over, node, path)
    if isinstance(base, list):
        if not isinstance(over, list):
            raise Misfit("is a list in the file before, and cannot be replaced by something else", path)
        return _union(base, over)
    return over


def _union(base: list[Any], over: list[Any]) -> list[Any]:
    """`base` and what `over` has that is not there yet; 1 and 1.0 differ, the order of keys is nothing."""
    known = {json.dumps(item, sort_keys=True) for item in base}
    found = list(base)
    for item in over:
        text = json.dumps(item, sort_keys=True)
        if text not in known:
            known.add(text)
            found.append(item)
    return found


def _mappings(base: Any, over: Any, node: Node | None, path: Path) -> dict[str, Any]:
    if not isinstance(base, dict) or not isinstance(over, dict):
        raise Misfit("must be a mapping", path)
    for key, value in over.items():
        if key in base:
            below = (node.children.get(key) or node.any) if node else None
            base[key] = merge(base[key], value, below, (*path, key))
        else:
            base[key] = value
    return base


def _replace(base: Any, over: Any, node: Node | None, path: Path) -> Any:
    return over


def _list(base: Any, over: Any, node: Node | None, path: Path) -> list[Any]:
    return _union(_as_list(base), _as_list(over))


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            if item is None:
                lines.append(key)
            else:
                lines += [f"{key}={text_of(one)}" for one in (item if isinstance(item, list) else [item])]
        return sorted(lines)
    if isinstance(value, str):
        return [value]
    return list(value) if isinstance(value, list) else []


def _hosts(base: Any, over: Any, node: Node | None, path: Path) -> list[Any]:
    first = _as_list(base)
    return first + [line for line in _as_list(over) if line not in first]


def _build(base: Any, over: Any, node: Node | None, path: Path) -> Any:
    first, second = ({"context": v} if isinstance(v, str) else v or {} for v in (base, over))
    return _mappings(first, second, node, path)


def _names(base: Any, over: Any, node: Node | None, path: Path) -> Any:
    first, second = (dict.fromkeys(map(text_of, v)) if isinstance(v, list) else v or {} for v in (base, over))
    return _mappings(first, second, node, path)


def _dependencies(base: Any, over: Any, node: Node | None, path: Path) -> Any:
    first, second = (
        {text_of(name): {"condition": "service_started", "required": True} for name in v}
        if isinstance(v, list)
        else v or {}
        for v in (base, over)
    )
    return _mappings(first, second, node, path)


def _logging(base: Any, over: Any, node: Node | None, path: Path) -> Any:
    """Options merge only while the driver stays the same."""
    first, second = base or {}, over or {}
    both = isinstance(first, dict) and isinstance(second, dict)
    if both and "driver" in first and "driver" in second and first["driver"] != second["driver"]:
        return second
    return _mappings(first, second, node, path)


def _pools(base: Any, over: Any, node: Node | None, path: Path) -> Any:
    """Address pools are the same when their subnet is."""
    for pools in (base, over):
        if not isinstance(pools, list) or not all(isinstance(pool, dict) for pool in pools):
            raise Misfit("must be a list of mappings", path)
    found: list[Any] = []
    for original in base:
        for other in over:
            new = all(one.get("subnet") != other.get("subnet") for one in found)
            if new and other.get("subnet") != original.get("subnet"):
                found.append(other)
                continue
            merged = _mappings(original, other, node, path)
            same = [i for i, one in enumerate(found) if one.get("subnet") == merged.get("subnet")]
            if same:
                found[same[0]] = merged
            else:
                found.append(merged)
    return found


_RULES = {
    "replace": _replace,
    "list": _list,
    "hosts": _hosts,
    "build": _build,
    "names": _names,
    "dependencies": _dependencies,
    "logging": _logging,
    "pools": _pools,
}


def only_last(value: list[Any], field: Field) -> list[Any]:
    """The list with every entry replaced by the last that is the same thing, in the place of the first."""
    assert field.unique is not None
    keys = fitted(enumerate(value), field.unique)
    return list(dict(zip(keys, value, strict=True)).values())
