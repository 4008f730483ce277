"""Pairs of id rows -> padded batches of sentences of similar length.

B batch, S source time, T target time, N pairs, K batches. The plan of an epoch, which pairs make
which batch, is NumPy over the lengths alone; only the batch in hand is read from disk.

Training compiles once for every shape (B, S, T), so shapes are few: sentences whose longer side has
the same padded length are together, and B follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.dataset import Position, generated
from kerasrnn.pipelines.graph_reading import pairs_in_graph
from kerasrnn.pipelines.pairs import Pairs
from kerasrnn.pipelines.service import Service, Stage
from kerasrnn.text.tokenizers import END, PAD, START

ROWS = 8  # of which the rows of a full batch by tokens are a multiple


def round_up(lengths, multiple: int = 4) -> np.ndarray:
    """Lengths, int [N] -> the padded lengths, int64 [N].

    Up to `8 * multiple` these are its multiples; beyond, steps grow as lengths do, a quarter of
    the power of two below, so that long sentences too have few lengths and little padding.

    >>> round_up([1, 8, 9, 65, 300]).tolist()
    [4, 8, 12, 80, 320]
    """
    lengths = np.asarray(lengths, np.int64)
    steps, doubled = np.full_like(lengths, multiple), 8 * multiple
    while (long := lengths > doubled).any():
        steps[long], doubled = doubled // 4, doubled * 2
    return -(-lengths // steps) * steps


def pad(rows: Sequence[np.ndarray], count: int, length: int) -> np.ndarray:
    """Id rows -> int32 [count, length], zeros at the right and below.

    >>> pad([[4, 5, 6], [7, 8]], 3, 4).tolist()
    [[4, 5, 6, 0], [7, 8, 0, 0], [0, 0, 0, 0]]
    """
    padded = np.full([count, length], PAD, np.int32)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def with_end(ids: np.ndarray) -> np.ndarray:
    """What a model reads of a source and is to say of a target: the ids and the end id.

    >>> with_end([4, 5, 6, 7, 8]).tolist()
    [4, 5, 6, 7, 8, 3]
    """
    return np.append(ids, END)


def with_start(ids: np.ndarray) -> np.ndarray:
    """What a model reads of a target (teacher forcing): the start id and the ids.

    >>> with_start([4, 5, 6, 7, 8]).tolist()
    [2, 4, 5, 6, 7, 8]
    """
    return np.append(START, ids)


def teacher_forcing(
    targets: Sequence[np.ndarray], count: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Targets -> what a model reads and what it is to say, both int32 [count, length].

    >>> [ids.tolist() for ids in teacher_forcing([[4, 5, 6], [7, 8]], 2, 4)]
    [[[2, 4, 5, 6], [2, 7, 8, 0]], [[4, 5, 6, 3], [7, 8, 3, 0]]]
    """
    return pad([*map(with_start, targets)], count, length), pad(
        [*map(with_end, targets)], count, length
    )


@dataclass(frozen=True, eq=False)
class Plan:
    """K batches of one epoch.

    Attributes:
        order: the pairs in the order of the epoch, int64 [N].
        starts: where in `order` each batch begins, and where the last one ends, int64 [K + 1].
        lengths: S and T of each batch, int64 [K, 2].
        source_tokens, target_tokens: real ids of the epoch, the end ids among them.
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
        """Which share of all places on both sides is padding."""
        places = np.diff(self.starts) @ self.lengths.sum(axis=1)
        return 1 - (self.source_tokens + self.target_tokens) / int(places)


def _capacity(batch_size: int, by: str):
    """A function: the longer side's length -> the rows of a full batch."""
    if by == "sentences":
        return lambda length: batch_size

    def rows(length: int) -> int:
        most = batch_size // length
        return most - most % ROWS if most >= ROWS else max(most, 1)

    return rows


def _bucketed(lengths: np.ndarray, capacity, seed: int, epoch: int) -> list[np.ndarray]:
    """Batches whose longer side has one length; what fills no batch goes to the next length.

    How many batches there are, and their rows, does not depend on the seed or the epoch.
    """
    random = np.random.default_rng([seed, epoch])
    shuffled, longer = random.permutation(len(lengths)), lengths.max(axis=1)
    batches, rest = [], shuffled[:0]
    for length in np.unique(longer):
        bucket = np.concatenate([rest, shuffled[longer[shuffled] == length]])
        rows = capacity(int(length))
        whole = len(bucket) - len(bucket) % rows
        batches += list(bucket[:whole].reshape(-1, rows))
        rest = bucket[whole:]
    if len(rest):
        batches.append(rest)
    return [batches[place] for place in random.permutation(len(batches))]


def _in_order(lengths: np.ndarray, capacity) -> list[np.ndarray]:
    """Batches of neighbours, each as large as its longest target allows."""
    targets, start, batches = lengths[:, 1].tolist(), 0, []
    while start < len(targets):
        stop, longest = start, targets[start]
        while stop < len(targets) and stop - start < capacity(max(longest, targets[stop])):
            longest = max(longest, targets[stop])
            stop += 1
        rows = stop - start
        if stop < len(targets) and ROWS < rows < capacity(longest):
            stop -= rows % ROWS  # a longer target comes next
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
    multiple: int = 4,
) -> Plan:
    """Which pairs make which batch of an epoch: every pair is in exactly one.

    Args:
        pairs: of them only `source_lengths` and `target_lengths` are looked at.
        batch_size: sentences, or tokens of the longer side, padding included, of a batch at
            most. A sentence that has more tokens by itself is alone in its batch.
        by: "sentences" or "tokens".
        seed: of the order, together with the epoch; without one the pairs stay in their order.
        multiple: of the padded lengths.

    Raises:
        InputError: when an argument cannot be used.

    >>> pairs = Pairs(None, "uint8", np.array([3, 9, 4, 3, 9]), np.array([5, 8, 4, 6, 9]))
    >>> epoch = plan(pairs, batch_size=2, seed=1)
    >>> len(epoch), sorted(epoch.shapes), epoch.target_tokens
    (3, [(1, 12, 12), (2, 8, 8), (2, 12, 12)], 37)
    """
    for name, value in (("batch_size", batch_size), ("multiple", multiple)):
        if value < 1:
            raise InputError(name, "1 or more", value, "raise it")
    if by not in ("sentences", "tokens"):
        raise InputError("by", '"sentences" or "tokens"', repr(by), "choose one")
    real = np.stack([pairs.source_lengths, pairs.target_lengths], axis=1).astype(np.int64) + 1
    lengths = round_up(real, multiple)
    capacity = _capacity(batch_size, by)
    if seed is None:
        chosen = _in_order(lengths, capacity)
    else:
        chosen = _bucketed(lengths, capacity, seed, epoch)
    order = np.concatenate(chosen)
    starts = np.cumsum([0, *map(len, chosen)])
    return Plan(
        order, starts, np.maximum.reduceat(lengths[order], starts[:-1]), *real.sum(axis=0).tolist()
    )


class Part(NamedTuple):
    """What one worker makes of a batch.

    Attributes:
        indices: its examples, int64.
        rows: of its padded batch; as many for every worker.
        lengths: S and T.
        place: the epoch, the batch, and which row of the global batch is the worker's first.
    """

    indices: np.ndarray
    rows: int
    lengths: tuple[int, int]
    place: tuple[int, int, int]

    @classmethod
    def of(cls, epoch: Plan, number: int, batch: int, shard: tuple[int, int]) -> Part:
        """The part of worker `shard` in one batch of epoch `number`."""
        indices, (index, count) = epoch.indices(batch), shard
        rows = -(-len(indices) // count)
        mine = indices[index * rows : (index + 1) * rows]
        return cls(mine, rows, tuple(epoch.lengths[batch].tolist()), (number, batch, index * rows))

    @classmethod
    def in_graph(cls, epoch: Plan, number: int, shard: tuple[int, int]) -> Callable:
        """`of` as graph code: batch, int64 -> a part of tensors."""
        index, count = shard

        def of(batch: tf.Tensor) -> Part:
            start, stop = tf.unstack(tf.gather(epoch.starts, batch + tf.constant([0, 1], tf.int64)))
            rows = -(-(stop - start) // count)
            mine = tf.constant(epoch.order)[start:stop][index * rows : (index + 1) * rows]
            lengths = tf.unstack(tf.gather(epoch.lengths, batch))
            return cls(mine, rows, lengths, tf.stack([number, batch, index * rows]))

        return of


def planned(
    examples,
    make: Callable[[Part], tuple],
    signature,
    *,
    stage: Stage = lambda dataset: dataset,
    position: Position | None = None,
    shard: tuple[int, int] = (0, 1),
    service: Service | None = None,
    **options,
) -> tf.data.Dataset:
    """What `make` makes of this worker's part of each batch, in the order of the plan.

    Args:
        examples: N of them, with `source_lengths` and `target_lengths`.
        make: a `Part` -> a batch as `signature` (tensor specs) says; with a service graph code.
        stage: what becomes of (place int32 [3], batch), where they are read: dataset -> dataset.
        position, shard, service: as in `batches`.
        options: of `plan`.

    >>> pairs = Pairs(None, "uint8", np.array([3, 9, 4, 3, 9]), np.array([5, 8, 4, 6, 9]))
    >>> dataset = planned(pairs, lambda p: p.indices, tf.TensorSpec([None], tf.int64), batch_size=2)
    >>> [indices.numpy().tolist() for indices in dataset]
    [[0, 1], [2, 3], [4]]
    """
    if not 0 <= shard[0] < shard[1]:
        raise InputError("shard", "(index, count), the index below the count", shard, "change it")
    position = position or Position()
    remaining = range(len(plan(examples, **options)))[position.batch :]

    def generate():
        number = position.epoch
        epoch = plan(examples, epoch=number, **options)
        for batch in remaining:
            part = Part.of(epoch, number, batch, shard)
            yield part.place, make(part)

    def epoch():
        number = position.epoch
        epoch = plan(examples, epoch=number, **options)
        return _in_graph(Part.in_graph(epoch, number, shard), make, stage)

    signature = (tf.TensorSpec([3], tf.int32), signature)
    if service is None:
        dataset = stage(generated(generate, len(remaining), signature))
    else:
        dataset = service.read(epoch, remaining, signature)
    return dataset.map(lambda place, batch: batch)


def _in_graph(part_of: Callable, make: Callable, stage: Stage) -> Stage:
    def read(batch):
        part = part_of(batch)
        return tf.cast(part.place, tf.int32), make(part)

    return lambda numbers: stage(numbers.map(read)).map(lambda place, b: (place[1], (place, b)))


def batches(
    pairs: Pairs,
    *,
    batch_size: int,
    by: str = "sentences",
    seed: int | None = None,
    position: Position | None = None,
    shard: tuple[int, int] = (0, 1),
    multiple: int = 4,
    service: Service | None = None,
) -> tf.data.Dataset:
    """((source [B, S], target_in [B, T]), target_out [B, T]), all int32, padded with 0.

    A source ends with the end id, `target_in` begins with the start id, `target_out` ends with the
    end id. With a seed, sentences of similar length are together, in another order every epoch;
    without one they come in their own order.

    Args:
        pairs, batch_size, by, seed, multiple: as in `plan`.
        position: where training stands; at the beginning when not given.
        shard: (index, count) of this worker. All have the same plan and each takes its rows of
            every batch; where B does not divide by the workers, rows of zeros are added, so that
            every worker has as many.
        service: whose workers read; this process when not given.

    Raises:
        InputError: when an argument cannot be used.
    """

    def make(part: Part):
        sources, targets = pairs.read(part.indices)
        source_length, target_length = part.lengths
        source = pad([*map(with_end, sources)], part.rows, source_length)
        target_in, target_out = teacher_forcing(targets, part.rows, target_length)
        return (source, target_in), target_out

    options = {"batch_size": batch_size, "by": by, "seed": seed, "multiple": multiple}
    ids = tf.TensorSpec([None, None], tf.int32)
    signature = ((ids, ids), ids)
    where = {"position": position, "shard": shard, "service": service}
    return planned(pairs, pairs_in_graph(pairs) if service else make, signature, **where, **options)
