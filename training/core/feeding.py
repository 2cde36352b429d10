"""Micro-batches for the loop: drawn ahead by worker processes, the same ones whoever draws."""

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


class Draws(torch.utils.data.Dataset):
    """Map-style: (draw, micro) -> that micro-batch of this process's share of the global batch of the draw.

    A task that has `draw` draws here; of others the items themselves are handed on.
    """

    def __init__(self, task, batch: int, micro_batches: int, process: int = 0, processes: int = 1):
        self.task, self.batch, self.micro_batches = task, batch, micro_batches
        self.process, self.processes = process, processes

    def __getitem__(self, key: tuple[int, int]):
        draw, micro = key
        share = self.task.items(draw, self.batch)[self.process :: self.processes]
        part = share[micro :: self.micro_batches]
        return self.task.draw(draw, part) if hasattr(self.task, "draw") else part


class InOrder(torch.utils.data.Sampler):
    """Every micro-batch from a draw on, without end."""

    def __init__(self, first: int, micro_batches: int):
        self.first, self.micro_batches = first, micro_batches

    def __iter__(self) -> Iterator[tuple[int, int]]:
        draw = self.first
        while True:
            yield from ((draw, micro) for micro in range(self.micro_batches))
            draw += 1


def feed(draws: Draws, first: int, workers: int) -> Iterator:
    """The micro-batches from the draw `first` on.

    Args:
        workers: processes that draw ahead (two micro-batches each); 0 draws when asked. They are forked, so that nothing is
            copied; where the system cannot fork, none are used.
    """
    order = InOrder(first, draws.micro_batches)
    forks = "fork" in multiprocessing.get_all_start_methods()
    if not (workers and forks):
        return (draws[key] for key in order)
    loader = torch.utils.data.DataLoader(
        draws,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="fork",
        generator=torch.Generator(),  # the global one stays as it is
    )
    return _one_ahead(iter(loader))


def _one_ahead(batches: Iterator) -> Iterator:
    """The same batches, the next one fetched meanwhile: a dozen tensors take some milliseconds from one process to another."""
    with ThreadPoolExecutor(1) as fetcher:
        coming = deque([fetcher.submit(next, batches)])
        while True:
            coming[0].result()
            coming.append(fetcher.submit(next, batches))
            yield coming.popleft().result()  # held by nobody here, so that it is freed when its user is done
