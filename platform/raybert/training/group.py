"""The workers that share a step: the few collectives that training needs, over torch.distributed.

Gloo (CPU) and NCCL (CUDA) are served. With torch 2.15 on loopback, gloo's all_gather takes five
times as long as one broadcast per worker and its reduce_scatter twice as long as an all-reduce,
while all_to_all runs at the speed of the sockets: hence the choices below.

Shape suffixes: N elements of a flat buffer, L elements of one worker's slice of it (N / size).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch import distributed as dist


class WorkerGroup:
    """All workers of torch's default process group, or this process alone where there is none.

    Every method is collective: all workers call it, in the same order.

    Attributes:
        rank: this worker, from 0.
        size: number of workers.
    """

    def __init__(self) -> None:
        initialized = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if initialized else 0
        self.size = dist.get_world_size() if initialized else 1
        self._is_gloo = initialized and dist.get_backend() == "gloo"

    def add_(self, values: Tensor) -> None:
        """Adds a small tensor over the workers, in place.

        Exact for integers, and for floats where at most one worker has something other than 0; the
        order of other sums is not fixed.
        """
        if self.size > 1:
            dist.all_reduce(values)

    def broadcast_(self, values: Tensor) -> None:
        """Gives everyone worker 0's values, in place."""
        if self.size > 1:
            dist.broadcast(values, 0)

    def exchange_slices(
        self, sent_N: Tensor | None, received_RL: Tensor, senders: Sequence[int]
    ) -> None:
        """Each of R senders hands slice w of its vector to worker w.

        Args:
            sent_N: what this worker sends; None when it is no sender.
            received_RL: contiguous; its rows are filled with what the senders sent here.
            senders: the sending ranks, ascending and the same on every worker.
        """
        length = received_RL.shape[1]
        received = received_RL.view(-1)
        dist.all_to_all_single(
            received,
            received[:0] if sent_N is None else sent_N,
            output_split_sizes=[length if rank in senders else 0 for rank in range(self.size)],
            input_split_sizes=[0 if sent_N is None else length] * self.size,
        )

    def add_slices(self, values_N: Tensor) -> Tensor:
        """This worker's slice of the sum over the workers, in no canonical order: (L,)."""
        if self.size == 1:
            return values_N
        rows_RL = values_N.view(self.size, -1)
        if self._is_gloo:
            received_RL = values_N.new_empty(rows_RL.shape)
            self.exchange_slices(values_N, received_RL, range(self.size))
            return received_RL.sum(dim=0)
        sum_L = values_N.new_empty(rows_RL.shape[1])
        dist.reduce_scatter_tensor(sum_L, values_N)
        return sum_L

    def begin_adding_(self, values: Tensor, owner: int) -> dist.Work:
        """Begins to add values over the workers, in place on one; the others' are spoilt.

        Called among more than one worker. Until the end is waited for they must not be touched.
        """
        work = dist.reduce(values, owner, async_op=True)
        assert work is not None  # asynchronous, and this worker is in the group
        return work

    def share_slices_(self, values_N: Tensor) -> None:
        """Completes a vector of which each worker holds its own slice, in place."""
        if self.size == 1:
            return
        rows_RL = values_N.view(self.size, -1)
        if self._is_gloo:
            sending = [
                dist.broadcast(row_L, rank, async_op=True) for rank, row_L in enumerate(rows_RL)
            ]
            for work in sending:
                assert work is not None  # asynchronous, and this worker is in the group
                work.wait()
        else:
            dist.all_gather_into_tensor(values_N, rows_RL[self.rank])

    def collect(self, owned_L: Tensor) -> Tensor | None:
        """The whole vector (N,) in host memory on worker 0, None elsewhere."""
        if self.rank != 0:
            dist.send(owned_L, 0)
            return None
        length = owned_L.numel()
        collected_N = owned_L.new_empty(length * self.size, device="cpu")
        collected_N[:length].copy_(owned_L)
        received_L = owned_L.new_empty(length if self.size > 1 else 0)
        for rank in range(1, self.size):
            dist.recv(received_L, rank)
            collected_N[rank * length : (rank + 1) * length].copy_(received_L)
        return collected_N
