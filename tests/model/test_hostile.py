"""Input that was made to hurt: a clear complaint, within bounds, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ComposerError, StackFileError
from composer.model import output
from composer.model.load import Request, load
from composer.model.reader import MAX_COMPLAINTS
from composer.model.tree import MAX_BYTES, MAX_DEPTH, MAX_NODES, Source
from tests.model.test_load import Disk

HEAD = "services: {a: {image: x}}\n"


def bomb(item: str, link: str) -> str:
    names = "abcdefghij"
    lines = [f"x-a: &a {item}"]
    for before, name in pairwise(names):
        lines.append(f"x-{name}: &{name} " + link.replace("*", f"*{before}"))
    return HEAD + "\n".join(lines)


TOO_MUCH: Mapping[str, tuple[str, str]] = {
    "aliases of aliases": (bomb("[1, 1, 1, 1]", "[*, *, *, *, *, *]"), f"more than {MAX_NODES} values"),
    "mappings of aliases": (
        bomb("{k: 1}", "{q: *, r: *, s: *, t: *, u: *, v: *}"),
        f"more than {MAX_NODES} values",
    ),
    "brackets": (HEAD + "x-a: " + "[" * 50_000, f"more than {MAX_DEPTH} levels"),
    "indentation": (
        HEAD + "x-a:\n" + "".join(" " * (i + 1) + "a:\n" for i in range(500)),
        f"more than {MAX_DEPTH} levels",
    ),
    "depth by aliases": (
        HEAD
        + "x-0: &a0 []\n"
        + "".join(f"x-{i}: &a{i} {'[' * 30}*a{i - 1}{']' * 30}\n" for i in range(1, 9)),
        f"more than {MAX_DEPTH} levels",
    ),
    "lines": ("services:\n" + "  s: x\n" * 1_000_000, "already set"),
    "values": (HEAD + "x-a: [" + "1," * (MAX_NODES + 1) + "]", f"more than {MAX_NODES} values"),
    "bytes": (HEAD + "x-a: " + "y" * MAX_BYTES, "larger than"),
    "an alias in itself": ("a: &a [*a]", "inside the value that it repeats"),
    "nested variables": (
        "services: {a: {image: '" + "${A:-" * 5_000 + "}" * 5_000 + "'}}",
        "nested too deep",
    ),
    "unclosed variables": ("services: {a: {image: '" + "${A:-" * 100_000 + "}'}}", "is not a valid use"),
    "ports": (
        "services: {a: {image: x, ports: ['1-65535:1-65535', '127.0.0.1:1-65535:1-65535']}}",
        "publishes more than",
    ),
    "unknown keys": (
        "services: {a: {image: x, " + ",".join(f"k{i}: 1" for i in range(100_000)) + "}}",
        "more mistakes",
    ),
    "unknown names": (
        "services: {" + ",".join(f"s{i}: {{image: x, networks: [n{i}]}}" for i in range(20_000)) + "}\n"
        "networks: {" + ",".join(f"m{i}: " for i in range(20_000)) + "}",
        "more mistakes",
    ),
    "wrong services": ("services: {" + ",".join(f"s{i}: 5" for i in range(90_000)) + "}", "more mistakes"),
    "extends": (
        "services:\n  s0: {extends: s1}\n"
        + "".join(f"  s{i}: {{extends: s{i + 1}}}\n" for i in range(1, 1_000))
        + "  s1000: {image: x}",
        "chain of `extends` is too long",
    ),
}


@pytest.mark.parametrize(("text", "message"), TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_too_much_is_refused(text: str, message: str) -> None:
    with pytest.raises(StackFileError) as caught:
        loaded(text.encode())
    assert message in str(caught.value)
    assert len(caught.value.complaints) <= MAX_COMPLAINTS + 1


NOT_YAML: Mapping[str, tuple[bytes, str]] = {
    "a tab": (b"a:\n\tb: 1", "2:1"),
    "a NUL": (b"a: 1\nb: \x00", "2:1"),
    "Latin-1": (b"a: 1\nb: caf\xe9", "2:7"),
    "half a list": (b"a: [1,", "2:1"),
    "a key twice": (b"a: 1\nb: 2\na: 3", "3:1"),
    "a number as key": (b"1: x", "1:1"),
    "a list as key": (b"[1]: x", "1:1"),
    "an unknown alias": (b"a: *b", "1:4"),
    "an undefined directive": (b"%x", "1:3"),
}


@pytest.mark.parametrize(("data", "place"), NOT_YAML.values(), ids=NOT_YAML.keys())
def test_what_is_not_yaml_has_a_place(data: bytes, place: str) -> None:
    with pytest.raises(StackFileError) as caught:
        Source("f", data)
    assert str(caught.value.complaints[0].place) == f"f:{place}"


def test_files_that_include_each_other_without_end() -> None:
    chain = {f"/w/{i}.yaml": f"include: [{i + 1}.yaml, {i + 1}.yaml]" for i in range(40)}
    with pytest.raises(StackFileError, match="files are included"):
        load(Request(("/w/0.yaml",), "/w"), Disk(chain | {"/w/40.yaml": HEAD}))


class Bytes:
    """One file, as bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, path: str) -> bytes:
        if path != "/w/compose.yaml":
            raise FileNotFoundError(path)
        return self.data

    def exists(self, path: str) -> bool:
        return path == "/w/compose.yaml"


def loaded(data: bytes) -> None:
    config = load(Request(("/w/compose.yaml",), "/w", profiles=("*",)), Bytes(data)).config
    output.yaml_text(config)
    output.json_text(config)


KEYS = st.sampled_from(
    [
        *(
            "services",
            "networks",
            "volumes",
            "secrets",
            "configs",
            "a",
            "b",
            "image",
            "build",
            "ports",
            "environment",
        ),
        *(
            "depends_on",
            "deploy",
            "resources",
            "limits",
            "healthcheck",
            "test",
            "extends",
            "command",
            "labels",
            "x-a",
        ),
        *(
            "target",
            "source",
            "type",
            "name",
            "external",
            "ulimits",
            "logging",
            "env_file",
            "include",
            "profiles",
        ),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        ["", "a", "a:b", "80:80", "A=b", "${A:-b}", "$", "./x:/y", "bind", "1g", "3s", "service:a"]
    )
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=30,
)


@settings(max_examples=300)
@given(st.fixed_dictionaries({"services": st.dictionaries(st.sampled_from("ab"), TREES)}) | TREES)
def test_no_tree_makes_a_traceback(tree: object) -> None:
    try:
        loaded(json.dumps(tree).encode())
    except ComposerError as error:
        assert str(error)


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_a_traceback(data: bytes) -> None:
    try:
        loaded(data)
    except ComposerError as error:
        assert str(error)
