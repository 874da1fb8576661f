"""Requests of one moment, answered by one call: what is slow once is not done fifty times."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from composer.errors import ComposerError

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class _Batch(Generic[Request, Answer]):
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[Answer] | None = None
        self.done = anyio.Event()


class Together(Generic[Request, Answer]):
    """`work` gets all requests of one pass of the event loop, and gives an answer to each, in order.

    When it fails, everybody tries again alone: nobody suffers for a wish of somebody else.
    """

    def __init__(self, work: Callable[[list[Request]], Awaitable[list[Answer]]]) -> None:
        self.work = work
        self.batch = _Batch[Request, Answer]()

    async def ask(self, requests: list[Request]) -> list[Answer]:
        """Raises what `work` raises."""
        if not requests:
            return []
        batch = self.batch
        begin = len(batch.requests)
        batch.requests += requests
        if begin:
            await batch.done.wait()
        else:
            await self._answer(batch)
        if batch.answers is None:
            return await self.work(requests)
        return batch.answers[begin : begin + len(requests)]

    async def _answer(self, batch: _Batch[Request, Answer]) -> None:
        try:
            await anyio.lowlevel.checkpoint()
            self.batch = _Batch()
            batch.answers = await self.work(batch.requests)
        except ComposerError:
            pass
        finally:
            batch.done.set()
