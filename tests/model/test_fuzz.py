"""Documents that mostly follow the schema, through the whole loader: answers or complaints, no traceback.

And keys of the corpus in new company: what is printed, loaded again, means the same.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ComposerError
from composer.model import digest, output
from composer.model.load import Request, load, resolve
from composer.model.schema import rules
from composer.model.tree import Source
from tests.model.test_corpus import there_and_back
from tests.model.test_load import Disk
from tests.model.test_schema import SERVICE, like

SWITCHES = ("no_interpolate", "no_normalize", "no_path_resolution", "no_consistency", "no_env_resolution")
FILES = {"/w/a": "A=b\n", "/w/z": "services: {a: {image: x}, b: {image: y}}", "/w/.env": "A=1\n"}
SERVICES = st.fixed_dictionaries(
    {"services": st.dictionaries(st.sampled_from(["a", "b", "x-a"]), like(SERVICE), max_size=3)}
)
REQUEST = Request(("/w/1", "/w/2"), "/w", profiles=("*",), environment={"HOME": "/h"}, env_files=("/w/.env",))


def disk(first: Any, second: Any) -> Disk:
    return Disk({**FILES, "/w/1": json.dumps(first), "/w/2": json.dumps(second)})


@settings(max_examples=150)
@given(SERVICES | like(rules()), SERVICES | like(rules()))
def test_two_files_and_what_they_make(first: Any, second: Any) -> None:
    try:
        loaded = load(REQUEST, disk(first, second))
    except ComposerError as error:
        assert str(error)
        return
    assert digest.load_stack(digest.dump(loaded.stack)) == loaded.stack
    output.yaml_text(loaded.config)
    output.json_text(loaded.config)


@settings(max_examples=100)
@given(SERVICES | like(rules()), st.sets(st.sampled_from(SWITCHES)))
def test_stages_left_out(document: Any, switches: set[str]) -> None:
    request = REQUEST.replace(files=("/w/1",), **dict.fromkeys(switches, True))
    try:
        resolved = resolve(request, disk(document, None))
    except ComposerError as error:
        assert str(error)
        return
    output.yaml_text(resolved.config)


SECTIONS = ("networks", "volumes", "secrets", "configs", "models")
APART = {"extends", "depends_on", "links", "volumes_from", "network_mode", "ipc", "pid", "container_name"}
"""Keys that name other services or rule others out."""
APART |= {"pre_start"}
"""A step is printed with the service's own lists, where two entries may have one target: read again, one."""


@cache
def pool() -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Every value that a service's key has in the corpus, and the corpus's resources by section and name."""
    values: dict[str, list[Any]] = {}
    resources: dict[str, Any] = {section: {} for section in SECTIONS}
    for case in there_and_back():
        for document in Source(str(case.file), case.file.read_bytes()).documents:
            data = document.data or {}
            for service in filter(None, (data.get("services") or {}).values()):
                for key in service.keys() - APART:
                    values.setdefault(key, []).append(service[key])
            for section in SECTIONS:
                for name, one in (data.get(section) or {}).items():
                    resources[section].setdefault(name, one)
    return values, resources


@st.composite
def stacks(draw: st.DrawFn) -> Any:
    values, resources = pool()
    services: dict[str, Any] = {}
    for name in draw(st.sets(st.sampled_from("abc"), min_size=1)):
        keys = draw(st.sets(st.sampled_from(sorted(values)), max_size=8))
        services[name] = {"image": "x"} | {key: draw(st.sampled_from(values[key])) for key in sorted(keys)}
        others = draw(st.sets(st.sampled_from(sorted(services))))
        services[name] |= {"depends_on": sorted(others - {name})} if others - {name} else {}
    return {"services": services, **resources}


@settings(max_examples=200)
@given(stacks())
def test_what_is_printed_means_the_same_again(document: Any) -> None:
    request = REQUEST.replace(files=("/w/1",), env_files=())
    try:
        first = load(request, disk(document, None))
    except ComposerError:
        return
    printed = output.yaml_text(first.config)
    again = load(request.replace(all_resources=True), Disk({**FILES, "/w/1": printed}))
    assert again.config == first.config
    assert again.stack.replace(name_given=False) == first.stack.replace(name_given=False)
