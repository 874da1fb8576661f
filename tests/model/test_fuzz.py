"""Documents that mostly follow the schema, through the whole loader: answers or complaints, no traceback."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ComposerError
from composer.model import digest, output
from composer.model.load import Request, load, resolve
from composer.model.schema import rules
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


@settings(max_examples=150, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(SERVICES | like(rules()), st.sets(st.sampled_from(SWITCHES)))
def test_stages_left_out(document: Any, switches: set[str]) -> None:
    request = REQUEST.replace(files=("/w/1",), **dict.fromkeys(switches, True))
    try:
        resolved = resolve(request, disk(document, None))
    except ComposerError as error:
        assert str(error)
        return
    output.yaml_text(resolved.config)
