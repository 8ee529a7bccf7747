"""Batches on their way to the device: cut into this process's parts, the next one read ahead."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from abo_vqa.core.memory import out_of_memory
from abo_vqa.training.batches import Batch, Examples, parts
from abo_vqa.training.pictures import Resident

if TYPE_CHECKING:
    from abo_vqa.training.team import Team


class Feed:
    """What each process computes of each batch.

    Attributes:
        micro: parts that a process's share of a batch is cut into.
    """

    def __init__(self, examples: Examples, team: Team, device: Any, micro: int) -> None:
        self.examples, self.team, self.device, self.micro = examples, team, device, micro

    def ahead(
        self, plan: Sequence[list[int]]
    ) -> Generator[tuple[list[int], list[Batch] | None], None, None]:
        """Each batch with this process's parts of it, on a GPU or from a disk read ahead.

        Nothing here holds on to the parts, only to the list they are in: who empties it frees them.
        None where there is no room for them beside the batch before.
        """
        if self.device.type == "cpu" and isinstance(self.examples.pictures, Resident):
            yield from ((batch, self.prepare(batch)) for batch in plan)
            return
        with ThreadPoolExecutor(1) as pool:
            waiting: Future[list[Batch] | None] | None = None
            cut: list[list[int]] = []
            for batch, following in zip(plan, [*plan[1:], None], strict=True):
                ready = waiting.result() if waiting else self.prepare(batch)
                if waiting and cut != self.share(batch):  # memory was too small meanwhile
                    waiting = ready = None
                    ready = self.prepare(batch)
                waiting = None
                if following:
                    cut = self.share(following)
                    waiting = pool.submit(self.load, cut)
                yield batch, ready

    def prepare(self, batch: Sequence[int]) -> list[Batch] | None:
        """This process's parts of a batch, on the device; None if memory is too small for them."""
        return self.load(self.share(batch))

    def share(self, batch: Sequence[int]) -> list[list[int]]:
        """The rows of this process's parts of a batch."""
        team = self.team
        cut = parts(batch, self.examples.paths, self.micro * team.processes)
        return cut[team.process :: team.processes]

    def load(self, cut: Sequence[Sequence[int]]) -> list[Batch] | None:
        """Some parts, on the device; None if memory is too small for them."""
        try:
            return [self.examples.batch(rows).to(self.device) for rows in cut]
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None

    def halve(self, batch: Sequence[int]) -> bool:
        """Cut batches into twice as many parts from now on; whether that makes this one's smaller.

        A picture's questions stay together.
        """
        pictures = len({self.examples.paths[i] for i in batch})
        if self.micro * self.team.processes >= pictures:
            return False
        self.micro *= 2
        return True
