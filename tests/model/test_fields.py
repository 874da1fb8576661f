"""The table against the schema and against the planner: no key is known to one and unknown to the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from composer.model import fields, schema
from composer.model.stack import Service
from composer.plan.changes import CONSEQUENCES

SPEC = json.loads(schema.FILE.read_bytes())


def rule(spec: Any) -> Any:
    while "$ref" in spec:
        spec = SPEC["$defs"][spec["$ref"].rsplit("/", 1)[1]]
    return spec


def objects(spec: Any) -> list[Any]:
    """The mappings that a subschema allows."""
    spec = rule(spec)
    branches = [one for key in ("oneOf", "anyOf", "allOf") for one in spec.get(key, ())]
    return [spec, *(found for one in branches for found in objects(one))]


def keys(spec: Any) -> dict[str, Any]:
    return {key: below for one in objects(spec) for key, below in one.get("properties", {}).items()}


SECTIONS = ["service", "network", "volume", "secret", "config", "model"]


@pytest.mark.parametrize("name", SECTIONS)
def test_schema_and_table_know_the_same_keys(name: str) -> None:
    node = fields.tree().children[f"{name}s"].any
    assert node is not None
    unknown = {"pull_refresh_after", "content"}  # never acted on by anybody; only configs have content
    assert keys(SPEC["$defs"][name]).keys() - unknown <= node.children.keys()
    extra = {"driver", "driver_opts", "content"} if name in ("secret", "config") else set()
    assert node.children.keys() - extra <= keys(SPEC["$defs"][name]).keys()


NESTED = [
    "build",
    "deploy",
    "healthcheck",
    "logging",
    "develop",
    "blkio_config",
    "credential_spec",
    "provider",
]


@pytest.mark.parametrize("key", NESTED)
def test_and_the_keys_inside(key: str) -> None:
    node = fields.tree().children["services"].any
    assert node is not None
    assert keys(keys(SPEC["$defs"]["service"])[key]).keys() == node.children[key].children.keys()


def test_table_and_planner_agree_on_what_a_change_forces() -> None:
    told = fields.consequences()
    differ = {
        field: (told.get(field, "recreate"), CONSEQUENCES.get(field, "recreate"))
        for field in Service.__fields__
        if field in told and told[field] != CONSEQUENCES.get(field, "recreate")
    }
    assert differ == {}


def test_every_row_says_what_it_is_for() -> None:
    assert [row.path for row in fields.FIELDS if not row.doc] == []
    assert [row.path for row in fields.FIELDS if row.support != "acts" and not row.why] == []
