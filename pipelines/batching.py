"""Padded batches of sentence pairs, with sentences of similar length together.

B batch, S source time, T target time, N pairs, K batches. The plan of an epoch says which pairs
make which batch. It needs the lengths alone; ids are read one batch at a time. Training compiles
once for every shape (B, S, T), so shapes must be few: a batch holds sentences whose longer side has
one padded length, and that length decides B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.dataset import Position
from kerasrnn.pipelines.ids import teacher_forcing
from kerasrnn.pipelines.pairs import Pairs
from kerasrnn.pipelines.service import Epoch, Service, Stage, read_epochs

ROWS = 8  # a full batch that is measured in tokens has a multiple of so many rows


def round_up(lengths, multiple: int = 4) -> np.ndarray:
    """Round lengths, int [N], up to padded lengths, int64 [N].

    Up to `8 * multiple` a padded length is a multiple of `multiple`. Beyond that the step grows
    with the length, so that long sentences have few different lengths too, and little padding.

    >>> round_up([1, 8, 9, 65, 300]).tolist()
    [4, 8, 12, 80, 320]
    """
    lengths = np.asarray(lengths, np.int64)
    steps, doubled = np.full_like(lengths, multiple), 8 * multiple
    while (long := lengths > doubled).any():
        steps[long], doubled = doubled // 4, doubled * 2
    return -(-lengths // steps) * steps


@dataclass(frozen=True, eq=False)
class Plan:
    """The K batches of one epoch.

    Attributes:
        order: indices of the pairs, in the order of the epoch, int64 [N].
        starts: where each batch begins in `order`, and where the last one ends, int64 [K + 1].
        lengths: S and T of each batch, int64 [K, 2].
        source_tokens, target_tokens: ids of the epoch without padding, end ids included.
    """

    order: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    source_tokens: int
    target_tokens: int

    def __len__(self) -> int:
        return len(self.lengths)

    def indices(self, batch: int) -> np.ndarray:
        """The pairs of one batch, int64 [B]."""
        return self.order[self.starts[batch] : self.starts[batch + 1]]

    @property
    def shapes(self) -> set[tuple[int, int, int]]:
        """Every (B, S, T) of the epoch."""
        return set(zip(np.diff(self.starts).tolist(), *self.lengths.T.tolist(), strict=True))

    @property
    def padding(self) -> float:
        """The share of padding among all places on both sides."""
        places = np.diff(self.starts) @ self.lengths.sum(axis=1)
        return 1 - (self.source_tokens + self.target_tokens) / int(places)


def _capacity(batch_size: int, by: str):
    """A function from the length of the longer side to the rows of a full batch."""
    if by == "sentences":
        return lambda length: batch_size

    def rows(length: int) -> int:
        fitting = batch_size // length
        return fitting - fitting % ROWS if fitting >= ROWS else max(fitting, 1)

    return rows


def _bucketed(lengths: np.ndarray, capacity, seed: int, epoch: int) -> list[np.ndarray]:
    """Batches whose longer sides have one padded length, in random order.

    The sentences left over at one length go to the next length. The number of batches and their
    sizes do not depend on the seed or the epoch.
    """
    random = np.random.default_rng([seed, epoch])
    shuffled, longer = random.permutation(len(lengths)), lengths.max(axis=1)
    batches, remainder = [], shuffled[:0]
    for length in np.unique(longer):
        bucket = np.concatenate([remainder, shuffled[longer[shuffled] == length]])
        rows = capacity(int(length))
        full = len(bucket) - len(bucket) % rows
        batches += list(bucket[:full].reshape(-1, rows))
        remainder = bucket[full:]
    if len(remainder):
        batches.append(remainder)
    return [batches[place] for place in random.permutation(len(batches))]


def _in_order(lengths: np.ndarray, capacity) -> list[np.ndarray]:
    """Batches of neighbouring pairs, each as large as its longest target allows."""
    targets, start, batches = lengths[:, 1].tolist(), 0, []
    while start < len(targets):
        stop, longest = start, targets[start]
        while stop < len(targets) and stop - start < capacity(max(longest, targets[stop])):
            longest = max(longest, targets[stop])
            stop += 1
        rows = stop - start
        if stop < len(targets) and ROWS < rows < capacity(longest):
            stop -= rows % ROWS  # the next target is longer and did not fit
        batches.append(np.arange(start, stop))
        start = stop
    return batches


def plan(
    pairs,
    *,
    batch_size: int,
    by: str = "sentences",
    seed: int | None = None,
    epoch: int = 0,
    pad_to_multiple: int = 4,
) -> Plan:
    """Assign every pair to exactly one batch of an epoch.

    Args:
        pairs: only `source_lengths` and `target_lengths` are used.
        batch_size: the largest number of sentences in a batch, or of tokens of the longer side,
            padding included. A sentence that has more tokens by itself gets a batch alone.
        by: "sentences" or "tokens".
        seed: decides the order, together with `epoch`. Without one the pairs keep their order.
        pad_to_multiple: padded lengths are multiples of it.

    Raises:
        InputError: when an argument is out of range.

    >>> pairs = Pairs(None, np.array([3, 9, 4, 3, 9]), np.array([5, 8, 4, 6, 9]))
    >>> epoch = plan(pairs, batch_size=2, seed=1)
    >>> len(epoch), sorted(epoch.shapes), epoch.target_tokens
    (3, [(1, 12, 12), (2, 8, 8), (2, 12, 12)], 37)
    """
    for name, value in (("batch_size", batch_size), ("pad_to_multiple", pad_to_multiple)):
        if value < 1:
            raise InputError(name, "1 or more", value, "raise it")
    if by not in ("sentences", "tokens"):
        raise InputError("by", '"sentences" or "tokens"', repr(by), "choose one")
    real = np.stack([pairs.source_lengths, pairs.target_lengths], axis=1).astype(np.int64) + 1
    lengths = round_up(real, pad_to_multiple)
    capacity = _capacity(batch_size, by)
    if seed is None:
        groups = _in_order(lengths, capacity)
    else:
        groups = _bucketed(lengths, capacity, seed, epoch)
    order = np.concatenate(groups)
    starts = np.cumsum([0, *map(len, groups)])
    return Plan(
        order, starts, np.maximum.reduceat(lengths[order], starts[:-1]), *real.sum(axis=0).tolist()
    )


class Part(NamedTuple):
    """One worker's share of a batch, as tensors.

    Attributes:
        indices: indices of the worker's examples, int64 [B].
        rows, lengths: rows of its padded batch, the same for every worker; (S, T).
        place: epoch, batch, and the row of the global batch that is the worker's first, int32 [3].
    """

    indices: tf.Tensor
    rows: tf.Tensor
    lengths: list[tf.Tensor]
    place: tf.Tensor

    @classmethod
    def of(cls, epoch: Plan, number: int, batch: tf.Tensor, shard: tuple[int, int]) -> Part:
        """The part of worker `shard` = (index, count) in one batch of epoch `number`."""
        index, count = shard
        start, stop = tf.unstack(tf.gather(epoch.starts, batch + tf.constant([0, 1], tf.int64)))
        rows = -(-(stop - start) // count)
        share = tf.constant(epoch.order)[start:stop][index * rows : (index + 1) * rows]
        place = tf.cast(tf.stack([number, batch, index * rows]), tf.int32)
        return cls(share, rows, tf.unstack(tf.gather(epoch.lengths, batch)), place)


def planned_batches(
    examples,
    make: Callable[[Part], tuple],
    signature,
    *,
    check: Callable[[np.ndarray], None] = lambda indices: None,
    stage: Stage | None = None,
    position: Position | None = None,
    shard: tuple[int, int] = (0, 1),
    service: Service | None = None,
    **options,
) -> tf.data.Dataset:
    """The batches that `make` builds from this worker's parts, in the order of the plan.

    Args:
        examples: N examples, with `source_lengths` and `target_lengths`.
        make: graph code, `Part` -> a batch as in `signature` (tensor specs).
        check: called with the indices of a batch before it is read. It raises InputError when
            what they need has changed.
        stage: changes the dataset of (place int32 [3], batch), in the process that reads it.
        position, shard, service, options: as in `batches`, and keyword arguments of `plan`.

    >>> pairs = Pairs(None, np.array([3, 9, 4, 3, 9]), np.array([5, 8, 4, 6, 9]))
    >>> spec = tf.TensorSpec([None], tf.int64)
    >>> dataset = planned_batches(pairs, lambda part: part.indices, spec, batch_size=2)
    >>> [indices.numpy().tolist() for indices in dataset]
    [[0, 1], [2, 3], [4]]
    """
    if not 0 <= shard[0] < shard[1]:
        raise InputError("shard", "(index, count), the index below the count", shard, "change it")
    position = position or Position()
    remaining = range(len(plan(examples, **options)))[position.batch :]

    if stage is not None:  # it refuses here what it cannot change
        stage(_no_batches(signature))

    def epoch() -> Epoch:
        number = position.epoch
        epoch_plan = plan(examples, epoch=number, **options)

        def read(batch):
            part = Part.of(epoch_plan, number, batch, shard)
            return part.place, make(part)

        def staged(numbers):
            batches = numbers.map(read) if stage is None else stage(numbers.map(read))
            return batches.map(lambda place, b: (tf.cast(place[1], tf.int64), b))

        return Epoch(staged, lambda batch: check(epoch_plan.indices(batch)))

    return read_epochs(epoch, remaining, signature, service)


def _no_batches(signature) -> tf.data.Dataset:
    """A dataset of (place, batch) without elements."""
    signature = (tf.TensorSpec([3], tf.int32), signature)
    return tf.data.Dataset.from_generator(lambda: iter(()), output_signature=signature)


def batches(
    pairs: Pairs,
    *,
    batch_size: int,
    by: str = "sentences",
    seed: int | None = None,
    position: Position | None = None,
    shard: tuple[int, int] = (0, 1),
    pad_to_multiple: int = 4,
    service: Service | None = None,
) -> tf.data.Dataset:
    """Batches ((source [B, S], target_in [B, T]), target_out [B, T]), int32, padded with 0.

    A source ends with the end id, `target_in` begins with the start id, `target_out` ends with the
    end id. `plan` says which pairs are together.

    Args:
        pairs, batch_size, by, seed, pad_to_multiple: as in `plan`.
        position: where training stands; by default at the beginning.
        shard: (index, count) of this worker, which takes its rows of every batch. Where `count`
            does not divide B, rows of zeros are added: all workers have the same number of rows.
        service: the data service that reads; by default this process reads.

    Raises:
        InputError: when an argument is out of range.
    """

    options = {"batch_size": batch_size, "by": by, "seed": seed, "pad_to_multiple": pad_to_multiple}
    ids = tf.TensorSpec([None, None], tf.int32)
    signature = ((ids, ids), ids)
    where = {"position": position, "shard": shard, "service": service}
    where["check"] = lambda indices: pairs.file.check("pairs")
    return planned_batches(pairs, _reader(pairs), signature, **where, **options)


def _reader(pairs: Pairs) -> Callable:
    """The `make` of `planned_batches` for pairs."""
    columns = (pairs.starts[:-1], pairs.source_lengths.astype(np.int64), pairs.target_lengths)

    def make(part: Part):
        starts, sources, targets = (tf.gather(column, part.indices) for column in columns)
        source_length, target_length = part.lengths
        read, rows = pairs.file.read, part.rows
        _, source = teacher_forcing(read, starts, sources, rows, source_length)
        target_in, target_out = teacher_forcing(
            read, starts + sources, targets, rows, target_length
        )
        return (source, target_in), target_out

    return make
