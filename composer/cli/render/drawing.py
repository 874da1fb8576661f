"""A stack as a drawing: layers of services, those that others depend on first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, NamedTuple

from composer.cli.render.table import width

CONDITIONS = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}


class Edge(NamedTuple):
    """`service` waits for `needs`, until `condition`."""

    service: str
    needs: str
    condition: str


class Graph(NamedTuple):
    layers: list[list[str]]
    edges: list[Edge]
    networks: dict[str, list[str]]
    labels: dict[str, str]
    """What is said of each service besides its name: its image and its ports."""


def graph(services: Mapping[str, Any], *, networks: bool = True) -> Graph:
    """From services as canonical JSON."""
    edges = [
        Edge(name, needs, CONDITIONS[dependency.get("condition", "service_started")])
        for name, data in services.items()
        for needs, dependency in data.get("depends_on", {}).items()
        if needs in services
    ]
    members: dict[str, list[str]] = {}
    for name, data in services.items():
        for network in data.get("networks", {}) if networks else ():
            members.setdefault(network, []).append(name)
    return Graph(
        layers(services, edges), edges, members, {name: label(data) for name, data in services.items()}
    )


def layers(services: Mapping[str, Any], edges: list[Edge]) -> list[list[str]]:
    """Services by the longest way down to one that depends on nobody."""
    depth = dict.fromkeys(services, 0)
    for _ in services:
        for edge in edges:
            depth[edge.service] = max(depth[edge.service], min(depth[edge.needs] + 1, len(services)))
    return [
        [name for name in services if depth[name] == level]
        for level in range(max(depth.values(), default=-1) + 1)
    ]


def label(data: Mapping[str, Any]) -> str:
    ports = [f":{port['published']}" for port in data.get("ports", ()) if port.get("published")]
    scale = f"×{data['scale']}" if data.get("scale", 1) != 1 else ""
    return " ".join(filter(None, (data.get("image", "(built)"), scale, *ports)))


def as_text(name: str, graph: Graph) -> str:
    """Each service with what it waits for below it; then the networks."""
    needs: dict[str, list[Edge]] = {}
    for edge in graph.edges:
        needs.setdefault(edge.service, []).append(edge)
    size = max((width(service) for layer in graph.layers for service in layer), default=0)
    lines = [name]
    for service in (service for layer in reversed(graph.layers) for service in layer):
        lines.append(f"  {service}{' ' * (size - width(service))}  {graph.labels[service]}".rstrip())
        edges = needs.get(service, [])
        for number, edge in enumerate(edges):
            corner = "└" if number == len(edges) - 1 else "├"
            lines.append(f"  {corner}─ {edge.needs} ({edge.condition})")
    if graph.networks:
        lines.append("networks")
        size = max(map(width, graph.networks))
        lines += [
            f"  {network}{' ' * (size - width(network))}  {', '.join(members)}"
            for network, members in graph.networks.items()
        ]
    return "\n".join(lines) + "\n"


def as_mermaid(name: str, graph: Graph) -> str:
    """A flowchart, https://mermaid.js.org/syntax/flowchart.html."""
    names = [service for layer in graph.layers for service in layer]
    ids = {service: f"s{number}" for number, service in enumerate(names)}
    lines = ["---", f"title: {name}", "---", "flowchart LR"]
    lines += [f'    {ids[service]}["{service}<br/>{graph.labels[service]}"]' for service in names]
    lines += [f"    {ids[e.service]} -->|{e.condition}| {ids[e.needs]}" for e in graph.edges]
    for number, (network, members) in enumerate(graph.networks.items()):
        lines.append(f'    n{number}(["{network}"])')
        lines += [f"    {ids[member]} -.- n{number}" for member in members]
    return "\n".join(lines) + "\n"


WIDE, HIGH, GAP, STEP, MARGIN = 190, 52, 90, 24, 30
TINTS = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2", "#edc948", "#9c755f")

STYLE = (
    "<style>text{font:13px sans-serif;fill:#222}.dim{fill:#777;font-size:11px}.name{font-weight:bold}</style>"
)
POINT = (
    '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0L8 4L0 8z" fill="#777"/></marker></defs>'
)


def as_svg(name: str, graph: Graph) -> str:
    """Columns of boxes from left to right: what depends, then what it depends on. Networks are dots."""
    columns = list(reversed(graph.layers))
    places = {
        service: (MARGIN + x * (WIDE + GAP), MARGIN + 30 + y * (HIGH + STEP))
        for x, column in enumerate(columns)
        for y, service in enumerate(column)
    }
    tints = {network: TINTS[number % len(TINTS)] for number, network in enumerate(graph.networks)}
    bottom = max((y for _, y in places.values()), default=0) + HIGH + MARGIN
    across = max((x for x, _ in places.values()), default=0) + WIDE + MARGIN
    parts = [arrow(edge, places) for edge in graph.edges]
    parts += [box(service, graph, places[service], tints) for service in places]
    for number, (network, tint) in enumerate(tints.items()):
        y = bottom + number * 20
        parts.append(f'<circle cx="{MARGIN + 5}" cy="{y - 4}" r="5" fill="{tint}"/>')
        parts.append(f'<text x="{MARGIN + 18}" y="{y}">{escape(network)}</text>')
    high = bottom + len(tints) * 20 + 10
    size = f'width="{across}" height="{high}" viewBox="0 0 {across} {high}"'
    title = f'<text class="name" x="{MARGIN}" y="{MARGIN}">{escape(name)}</text>'
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{STYLE}{POINT}{paper}{title}'
    return head + "".join(parts) + "</svg>\n"


def arrow(edge: Edge, places: Mapping[str, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = places[edge.service], places[edge.needs]
    x1, y1, y2 = x1 + WIDE, y1 + HIGH // 2, y2 + HIGH // 2
    bend = (x2 - x1) // 2
    path = f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    middle = f'x="{(x1 + x2) // 2}" y="{(y1 + y2) // 2 - 5}"'
    return (
        f'<path d="{path}" fill="none" stroke="#777" marker-end="url(#a)"/>'
        f'<text class="dim" text-anchor="middle" {middle}>{edge.condition}</text>'
    )


def box(service: str, graph: Graph, place: tuple[int, int], tints: Mapping[str, str]) -> str:
    x, y = place
    dots = [tint for network, tint in tints.items() if service in graph.networks[network]]
    return (
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="7" fill="#f6f8fa" stroke="#bbb"/>'
        f'<text class="name" x="{x + 12}" y="{y + 21}">{escape(service)}</text>'
        f'<text class="dim" x="{x + 12}" y="{y + 39}">{escape(graph.labels[service][:28])}</text>'
        + "".join(
            f'<circle cx="{x + WIDE - 12 - 13 * number}" cy="{y + 16}" r="5" fill="{tint}"/>'
            for number, tint in enumerate(dots)
        )
    )


FORMATS: Mapping[str, Callable[[str, Graph], str]] = {"text": as_text, "mermaid": as_mermaid, "svg": as_svg}
