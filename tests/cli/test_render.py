"""Tables, sizes, listings, templates, drawings: what is printed, as values."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.cli.render import drawing, words
from composer.cli.render.listing import Columns, listing
from composer.cli.render.sizes import binary, decimal
from composer.cli.render.table import fitted, shorten, table, width
from composer.errors import UsageError


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1536, "1.54kB"), (12_345_678, "12.3MB"), (10**18, "1e+03PB")],
)
def test_decimal(count: int, shown: str) -> None:
    assert decimal(count) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0B"), (1024, "1KiB"), (662_000, "646.5KiB"), (2**34, "16GiB")]
)
def test_binary(count: int, shown: str) -> None:
    assert binary(count) == shown


ROWS = [{"Name": "web-1", "State": "running"}, {"Name": "db-1", "State": "exited"}]
COLUMNS: Columns = {"NAME": "Name", "STATE": lambda row: row["State"].upper()}


@pytest.mark.parametrize(
    ("format", "shown"),
    [
        ("table", "NAME    STATE\nweb-1   RUNNING\ndb-1    EXITED"),
        ("", "NAME    STATE\nweb-1   RUNNING\ndb-1    EXITED"),
        ("json", "\n".join(json.dumps(row, separators=(",", ":")) for row in ROWS)),
        ("{{.Name}}={{.State}}", "web-1=running\ndb-1=exited"),
        ("table {{.Name}}\t{{.State}}", "NAME    STATE\nweb-1   running\ndb-1    exited"),
    ],
)
def test_listing(format: str, shown: str) -> None:
    assert listing(ROWS, COLUMNS, format) == shown


def test_listing_as_one_array() -> None:
    assert json.loads(listing(ROWS, COLUMNS, "json", array=True)) == ROWS
    assert listing([], COLUMNS, "json", array=True) == "[]"


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no field Nmae"):
        listing(ROWS, COLUMNS, "{{.Nmae}}")


CELLS = st.lists(st.text("aé漢 x", max_size=30).map(str.strip), min_size=3, max_size=3)


@given(st.lists(CELLS, max_size=5), st.integers(10, 80))
def test_a_table_is_fitted_into_a_terminal(rows: list[list[str]], columns: int) -> None:
    """It is no wider than the terminal, or all is given that may be; no row is lost, nothing needlessly."""
    head = ["ONE", "TWO", "THREE"]
    kept, cut = fitted(head, rows, columns, (("TWO", 4), ("TWO", 0), ("THREE", 6)))
    assert [row[0] for row in cut] == [row[0] for row in rows]
    before, after = (max(map(width, table(*pair).splitlines())) for pair in ((head, rows), (kept, cut)))
    least = max(width(row[-1]) for row in [kept, *cut]) <= 6
    assert after <= columns or (kept == ["ONE", "THREE"] and least)
    if before <= columns:
        assert (kept, cut) == (head, rows)


@given(st.text("aé漢", max_size=20), st.integers(1, 10))
def test_shorten_is_never_too_wide(text: str, size: int) -> None:
    assert width(shorten(text, size)) <= size


def test_since() -> None:
    assert words.since("") == "N/A"
    assert words.since("1970-01-01T00:00:00Z", 120 * 10**9) == "2 minutes ago"


SERVICES = {
    "web": {"image": "shop", "ports": [{"target": 80, "published": "8080"}],
            "networks": {"front": {}, "back": {}},
            "depends_on": {"db": {"condition": "service_healthy"}, "gone": {}}},
    "db": {"image": "postgres:16", "scale": 2, "networks": {"back": {}}},
}  # fmt: skip


def test_a_graph_has_layers_from_the_bottom_up() -> None:
    graph = drawing.graph(SERVICES)
    assert graph.layers == [["db"], ["web"]]
    assert graph.edges == [drawing.Edge("web", "db", "healthy")]
    assert graph.networks == {"front": ["web"], "back": ["web", "db"]}
    assert graph.labels == {"web": "shop :8080", "db": "postgres:16 ×2"}
    assert drawing.graph(SERVICES, networks=False).networks == {}


def test_text() -> None:
    assert drawing.as_text("app", drawing.graph(SERVICES)) == (
        "app\n"
        "  web  shop :8080\n"
        "  └─ db (healthy)\n"
        "  db   postgres:16 ×2\n"
        "networks\n"
        "  front  web\n"
        "  back   web, db\n"
    )


def test_mermaid() -> None:
    lines = drawing.as_mermaid("app", drawing.graph(SERVICES)).splitlines()
    assert '    s0["db<br/>postgres:16 ×2"]' in lines
    assert "    s1 -->|healthy| s0" in lines


@given(st.dictionaries(st.text('ab<&"-', min_size=1, max_size=5), st.just({"image": "<&>"}), max_size=6))
def test_svg_is_well_formed_whatever_names_are(services: dict[str, dict[str, str]]) -> None:
    names = list(services)
    linked = {
        name: {**data, "depends_on": {other: {} for other in names[:number]}}
        for number, (name, data) in enumerate(services.items())
    }
    root = ElementTree.fromstring(drawing.as_svg("<app>", drawing.graph(linked)))
    boxes = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("rx")]
    assert len(boxes) == len(services)
