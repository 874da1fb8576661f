"""Requests of one moment are one call; a failure is only for who deserves it."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from composer.errors import ConflictError
from composer.supervisor.together import Together


def test_one_moment_is_one_call() -> None:
    calls: list[list[int]] = []

    async def double(numbers: list[int]) -> list[int]:
        calls.append(list(numbers))
        await anyio.lowlevel.checkpoint()
        if 13 in numbers:
            raise ConflictError("13 is taken")
        return [2 * number for number in numbers]

    async def main() -> dict[int, object]:
        together = Together[int, int](double)
        got: dict[int, object] = {}

        async def ask(*numbers: int) -> None:
            try:
                got[numbers[0]] = await together.ask(list(numbers))
            except ConflictError as error:
                got[numbers[0]] = str(error)

        async with anyio.create_task_group() as tasks:
            for numbers in ((1,), (2, 3), (4,)):
                tasks.start_soon(ask, *numbers)
        async with anyio.create_task_group() as tasks:
            for number in (5, 13):
                tasks.start_soon(ask, number)
        assert await together.ask([]) == []
        return got

    got = anyio.run(main)
    assert calls[0] == [1, 2, 3, 4]
    assert got == {1: [2], 2: [4, 6], 4: [8], 5: [10], 13: "13 is taken"}
