"""The table of containers on the screen of `composer ui`: how each is, with curves of what it uses."""

from __future__ import annotations

from typing import Final

from rich.text import Text
from textual.widgets import DataTable

from composer.cli.board import cells
from composer.cli.board.reading import History, Reading
from composer.cli.render import words
from composer.cli.render.prefix import short
from composer.cli.render.sizes import decimal
from composer.record import ContainerRow

COLUMNS: Final = (
    # head, columns of the terminal from which it is shown
    ("", 0),
    ("CONTAINER", 0),
    ("STATUS", 50),
    ("CPU", 0),
    ("MEMORY", 70),
    ("NETWORK ↓ ↑", 135),
    ("PORTS", 110),
)


class Containers(DataTable[Text]):
    def __init__(self, stack: str) -> None:
        super().__init__(id="containers", cursor_type="row", cursor_foreground_priority="renderable")
        self.stack = stack
        self.history = History()
        self.reading = Reading([], [], {}, [])
        """What was shown last."""

    def set_columns(self, columns: int) -> None:
        """As many as there is room for."""
        heads = [head for head, least in COLUMNS if columns >= least]
        if [str(column.label) for column in self.ordered_columns] != heads:
            self.clear(columns=True)
            for head in heads:
                self.add_column(head, key=head)
        self.show(self.reading)

    def show(self, reading: Reading) -> None:
        self.reading = reading
        wanted = {row["name"]: self.cells_of(row, reading) for row in reading.rows}
        wanted |= {f"service {name}": missing(name) for name in reading.missing}
        if [key.value for key in self.rows] != list(wanted):
            at = self.key
            self.clear()
            for key, row in wanted.items():
                self.add_row(*(row.get(str(c.label), Text()) for c in self.ordered_columns), key=key)
            if at in wanted:
                self.move_cursor(row=list(wanted).index(at))
            return
        for key, row in wanted.items():
            for column in self.ordered_columns:
                head = str(column.label)
                self.update_cell(key, head, row.get(head, Text()), update_width=True)

    def cells_of(self, row: ContainerRow, reading: Reading) -> dict[str, Text]:
        name = row["name"]
        numbers = reading.numbers.get(name)
        shown = {
            "": cells.mark(row),
            "CONTAINER": Text(short(name, self.stack)),
            "STATUS": Text(words.status(row), cells.mood(row)),
            "PORTS": Text(words.ports(row["ports"]), cells.QUIET),
        }
        if numbers is not None:
            size = max(min((self.app.size.width - 92) // 3, 30), 8 if self.app.size.width >= 60 else 0)
            most = 1.25 * max(self.history.memory.get(name, (1,)), default=1)
            cpu = cells.curve(self.history.cpu.get(name, ()), size, cells.CALM_CPU, cells.NOTE)
            memory = cells.curve(self.history.memory.get(name, ()), size, numbers.limit or most, cells.BUSY)
            shown["CPU"] = cpu.append_text(cells.percent(numbers.cpu))
            shown["MEMORY"] = memory.append_text(cells.memory(numbers.memory, numbers.limit))
            traffic = f"{decimal(numbers.received):>7} {decimal(numbers.sent):>7}"
            shown["NETWORK ↓ ↑"] = Text(traffic, cells.QUIET)
        return shown

    @property
    def key(self) -> str:
        """Of the row under the cursor, "" for none."""
        if not self.is_valid_row_index(self.cursor_row):
            return ""
        return str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value)


def missing(service: str) -> dict[str, Text]:
    return {
        "": Text("○", cells.QUIET),
        "CONTAINER": Text(service, cells.QUIET),
        "STATUS": Text("no container", cells.QUIET),
    }
