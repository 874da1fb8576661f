"""The schema file, and our reading of it: complete, true to JSON Schema, and plain about mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.model import schema
from composer.model.schema import Rule, check, rules

SPEC = json.loads(schema.FILE.read_bytes())
JUDGE = jsonschema.Draft202012Validator(SPEC)
WILD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2000, 2000)
    | st.sampled_from([0.5, 1.0, -3.0])
    | st.text("a-x1.", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ax-1 ", max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
TYPES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "integer": st.integers(-1001, 1001) | st.just(3.0),
    "number": st.integers(-5, 5) | st.just(0.5),
    "string": st.sampled_from(["", "a", "always", "every_3d", "service_started", "bind", "z"]),
}


def resolved(spec: dict[str, Any]) -> dict[str, Any]:
    return schema.Definitions(SPEC["$defs"]).flat(spec)


@st.composite
def like(draw: st.DrawFn, rule: Rule) -> Any:
    """A value that mostly follows `rule`."""
    if draw(st.integers(0, 15)) == 7:
        return draw(WILD)
    if rule.branches and not rule.types:
        return draw(like(draw(st.sampled_from(rule.branches))))
    if "enum" in rule.spec:
        return draw(st.sampled_from(rule.spec["enum"]))
    kind = draw(st.sampled_from(sorted(rule.types))) if rule.types else "null"
    if kind == "array":
        return [draw(like(rule.items)) for _ in range(draw(st.integers(0, 3)))]
    if kind != "object":
        return draw(TYPES[kind])
    names = [*rule.properties, "a", "b", "x-a"] if rule.properties else ["a", "b.c", "x-a", "1"]
    keys = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
    keys += [name for name in rule.required if draw(st.integers(0, 7))]
    if draw(st.integers(0, 15)) == 7:
        keys.append(draw(st.sampled_from(["A B", "", "typo"])))
    return {key: draw(like(known)) if (known := rule.of(key)) else draw(WILD) for key in keys}


@settings(max_examples=200)
@given(like(rules()))
def test_verdicts_are_those_of_json_schema(document: Any) -> None:
    assert (not check(document)) == JUDGE.is_valid(document), check(document)


@pytest.mark.parametrize("value", [3.0, 3, 2.5, True, -1.0, 101])
def test_a_whole_number_may_have_a_fraction_of_nothing(value: float) -> None:
    document = {"services": {"a": {"cpu_percent": value}}}
    assert (not check(document)) == JUDGE.is_valid(document)


def below(rule: Rule, *keys: str) -> Rule:
    for key in keys:
        found = rule.of(key)
        assert found is not None
        rule = found
    return rule


SERVICE = below(rules(), "services", "a")


@settings(max_examples=200)
@given(like(SERVICE))
def test_verdicts_on_services_are_those_of_json_schema(service: Any) -> None:
    document = {"services": {"a": service}}
    assert (not check(document)) == JUDGE.is_valid(document), check(document)


def subschemas(spec: Any, path: str = "#") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every named key of the schema file: where it stands, its name, its subschema."""
    if isinstance(spec, list):
        for index, item in enumerate(spec):
            yield from subschemas(item, f"{path}/{index}")
    elif isinstance(spec, dict):
        for name, below in spec.get("properties", {}).items():
            yield path, name, below
        for key, below in spec.items():
            if key not in ("default", "examples", "required", "enum"):
                yield from subschemas(below, f"{path}/{key}")


NAMED = [(f"{path} {name}", spec) for path, name, spec in subschemas(SPEC)]


def test_the_file_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SPEC)
    assert len(NAMED) > 250


@pytest.mark.parametrize(("where", "spec"), NAMED, ids=[where for where, _ in NAMED])
def test_every_key_is_explained(where: str, spec: dict[str, Any]) -> None:
    """What an editor shows: a title, a sentence, and examples and defaults that are right."""
    assert spec.get("title")
    assert spec.get("description", "").endswith((".", ")"))
    whole = {**spec, "$defs": SPEC["$defs"]}
    for example in spec.get("examples", []) + ([spec["default"]] if "default" in spec else []):
        assert not list(jsonschema.Draft202012Validator(whole).iter_errors(example)), example


UNDERSTOOD = {
    *("$defs", "$ref", "$schema", "title", "description", "default", "examples", "deprecated"),
    *("patternErrorMessage", "type", "properties", "patternProperties", "additionalProperties"),
    *("unevaluatedProperties", "required", "items", "uniqueItems", "anyOf", "allOf", "enum", "pattern"),
    *("minimum", "maximum"),
}


def words(spec: Any) -> Iterator[str]:
    if isinstance(spec, list):
        for item in spec:
            yield from words(item)
    elif isinstance(spec, dict):
        for key, below in spec.items():
            yield key
            if key in ("properties", "patternProperties", "$defs"):
                for inner in below.values():
                    yield from words(inner)
            elif key not in ("default", "examples", "enum"):
                yield from words(below)


def test_no_word_of_the_file_is_ignored() -> None:
    assert set(words(SPEC)) == UNDERSTOOD


UNIT = "write a unit too, as in `10s`"
DASH = "write each entry in a line of its own that starts with `- `"
NO_DASH = "write `key: value` lines without a `- ` before them"
COLON = "put it in quotes, if `: ` belongs to the text"
OUTSIDE = "it belongs to `services.web`: check the indentation"
PULL = "must be always, never, missing, build, daily, weekly or every_<time> like every_12h, not `x`"
MISTAKES: list[tuple[dict[str, Any], str, str, str | None]] = [
    ({"image": 5}, "image", "must be text, not the number 5", "put it in quotes"),
    ({"stop_grace_period": 5}, "stop_grace_period", "must be text, not the number 5", UNIT),
    ({"image": None}, "image", "must be text, but is empty", "give it a value, or remove the key"),
    ({"labels": 5}, "labels", "must be a mapping or a list, not the number 5", None),
    ({"env_file": {}}, "env_file", "must be text or a list, not a mapping", None),
    ({"tty": 5}, "tty", "must be true or false, not the number 5", None),
    ({"cap_add": "ALL"}, "cap_add", "must be a list, not the text `ALL`", DASH),
    ({"healthcheck": []}, "healthcheck", "must be a mapping, not a list", NO_DASH),
    ({"command": ["a", 1]}, "command[1]", "must be text, not the number 1", "put it in quotes"),
    ({"command": [{"a": "b"}]}, "command[0]", "must be text, not a mapping", COLON),
    ({"imgae": "x"}, "imgae", "is not a known key", "did you mean `image`?"),
    ({"network": []}, "network", "is not a known key", "did you mean `networks`?"),
    ({"replicas": 3}, "replicas", "is not a known key", "write it as `deploy.replicas`"),
    ({"build": {"image": "x"}}, "build.image", "is not a known key", OUTSIDE),
    ({"healthcheck": {"volumes": {}}}, "healthcheck.volumes", "is not a known key", OUTSIDE),
    ({"quux": 1}, "quux", "is not a known key", "start your own keys with x-"),
    ({"k" * 5000: 1}, "k" * 5000, "is not a known key", "start your own keys with x-"),
    ({"cgroup": "hots"}, "cgroup", "must be `host` or `private`, not `hots`", "did you mean `host`?"),
    ({"pull_policy": "x"}, "pull_policy", PULL, None),
    ({"oom_score_adj": 2000}, "oom_score_adj", "must be from -1000 to 1000", None),
    ({"cpu_count": -1}, "cpu_count", "must be 0 or more", None),
    (
        {"links": ["a", "b", "a"]},
        "links[2]",
        "the text `a` stands in the list twice",
        "remove one of the two",
    ),
    (
        {"depends_on": {"db": {}}},
        "depends_on.db",
        "needs `condition`",
        "for example `condition: service_started`",
    ),
    (
        {"container_name": "aa/../b"},
        "container_name",
        "must be two or more letters, digits, . _ or -, the first a letter or digit, not `aa/../b`",
        None,
    ),
    ({"networks": {"a b": None}}, "networks.a b", "`a b` cannot be a name", "use letters, digits, and . _ -"),
]


@pytest.mark.parametrize(("service", "path", "message", "hint"), MISTAKES)
def test_a_mistake_in_plain_words(service: dict[str, Any], path: str, message: str, hint: str | None) -> None:
    from composer.errors import dotted

    found = check({"services": {"web": service}})
    assert [(dotted(p), m, h) for p, m, h in found] == [(f"services.web.{path}", message, hint)]


def test_keys_at_the_top() -> None:
    found = check({"service": {}, "image": "x", "container_name": "y", "x-mine": {"any": ["thing"]}})
    assert found == [
        (("service",), "is not a known key", "did you mean `services`?"),
        (("image",), "is not a known key", "write it as `services.NAME.image`"),
        (("container_name",), "is not a known key", "write it as `services.NAME.container_name`"),
    ]


@pytest.mark.parametrize(
    ("data", "path", "hint"),
    [
        ({"services": None}, "services", "indent what belongs to it below it, or remove the key"),
        ({"web": {"image": "x"}}, "web", "a service belongs below `services`: check the indentation"),
        ({"services": {"web": "image:x"}}, "services.web", "write a space after the colon"),
        (
            {"services": {"\u00a0a": {}}},
            "services.\u00a0a",
            "it begins or ends with a space that is not a plain one",
        ),
        (
            {"services": {"image": "x"}},
            "services.image",
            "`image` belongs to an entry one level further in: check the indentation",
        ),
        (
            {"networks": {"driver": "bridge"}},
            "networks.driver",
            "`driver` belongs to an entry one level further in: check the indentation",
        ),
    ],
)
def test_indentation_that_says_something_else(data: dict[str, Any], path: str, hint: str) -> None:
    from composer.errors import dotted

    assert [(dotted(p), h) for p, _, h in check(data)] == [(path, hint)]


def test_all_mistakes_are_told_and_very_many_are_cut() -> None:
    assert len(check({"services": {"web": {"image": 1, "tty": 2, "ports": 3}}})) == 3
    assert len(check({"services": {f"s{i}": None for i in range(100_000)}})) == schema.MAX_FINDINGS


def test_no_general_validator_is_imported() -> None:
    """Its import alone would cost more than a whole `config`."""
    code = "import sys, composer.model.load; sys.exit('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
