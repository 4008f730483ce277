"""Batches of pairs: every sentence once, few shapes, the same for all workers."""

import itertools

import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.batching import batches, plan, round_up
from kerasrnn.pipelines.pairs import Limits, Pairs, encode_pairs, read_pairs
from kerasrnn.pipelines.text import Position
from kerasrnn.text.tokenizers import END, START, SentencePieceTokenizer
from tests.conftest import SHARED
from tests.id_files import file_of, rows_in

WAYS = [("sentences", 7), ("tokens", 150), ("tokens", 700)]


def made(tmp_path, n: int, longest: int = 60, seed: int = 3) -> Pairs:
    """N pairs; the source of pair k begins with k in two digits, so that every pair is known."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.gamma(4, 4, [2, n]).astype(np.int32) + 2, 2, longest)
    rows = []
    for k, (s, t) in enumerate(lengths.T):
        rows += [[10 + k // 100, 10 + k % 100], random.integers(4, 200, s - 2 + t)]
    return Pairs(file_of(tmp_path / "ids", np.concatenate(rows), "uint8"), *lengths)


def arrays(dataset) -> list[tuple[np.ndarray, ...]]:
    return [(s.numpy(), i.numpy(), o.numpy()) for (s, i), o in dataset]


def lists(dataset) -> list:
    return [[part.tolist() for part in batch] for batch in arrays(dataset)]


def who(source: np.ndarray) -> list[int]:
    """The number of the pair in each row of a batch."""
    return ((source[:, 0] - 10) * 100 + source[:, 1] - 10).tolist()


def refused(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


# --- what a batch is ---


@pytest.mark.parametrize("by, size", WAYS)
@pytest.mark.parametrize("seed", [None, 5])
def test_every_sentence_comes_once_with_its_ids_and_marks(tmp_path, by, size, seed):
    pairs = made(tmp_path, 203)
    wanted_sources, wanted_targets = rows_in(pairs)
    seen = []
    for source, target_in, target_out in arrays(batches(pairs, batch_size=size, by=by, seed=seed)):
        assert source.dtype == target_in.dtype == target_out.dtype == np.int32
        assert len(source) == len(target_in) == len(target_out)
        assert target_in.shape == target_out.shape
        for k, *rows in zip(who(source), source, target_in, target_out, strict=True):
            s, t = wanted_sources[k], wanted_targets[k]
            for row, ids in zip(rows, ([*s, END], [START, *t], [*t, END]), strict=True):
                assert row.tolist() == ids + [0] * (len(row) - len(ids))
            seen.append(k)
    assert sorted(seen) == list(range(203))
    assert (seen == list(range(203))) == (seed is None)


def test_the_dataset_is_counted_and_its_shapes_are_open(tmp_path):
    dataset = batches(made(tmp_path, 50), batch_size=8, seed=1)
    assert len(dataset) == len(lists(dataset)) == 7
    (source, target_in), target_out = dataset.element_spec
    for spec in (source, target_in, target_out):
        assert spec.shape.as_list() == [None, None] and spec.dtype.name == "int32"


@pytest.mark.parametrize("by, size", WAYS)
def test_sentences_of_similar_length_are_together(tmp_path, by, size):
    pairs = made(tmp_path, 2000)
    bucketed, ordered = (plan(pairs, batch_size=size, by=by, seed=seed) for seed in (1, None))
    assert bucketed.padding < min(0.28, 0.7 * ordered.padding)
    assert all((bucketed.lengths % 4 == 0).ravel()) and all((ordered.lengths % 4 == 0).ravel())
    longer = np.maximum(pairs.source_lengths, pairs.target_lengths)
    spread = [np.ptp(longer[bucketed.indices(k)]) for k in range(len(bucketed))]
    assert np.mean(np.array(spread) < 4) > 0.6


def test_the_padding_and_the_tokens_of_a_plan_are_those_of_its_batches(tmp_path):
    pairs = made(tmp_path, 203)
    found = plan(pairs, batch_size=300, by="tokens", seed=2)
    made_of = arrays(batches(pairs, batch_size=300, by="tokens", seed=2))
    assert found.source_tokens == sum(int(np.sum(s != 0)) for s, _, _ in made_of)
    assert found.target_tokens == sum(int(np.sum(o != 0)) for _, _, o in made_of)
    zeros, places = (
        sum(int(np.sum(count(side))) for s, _, o in made_of for side in (s, o))
        for count in (lambda side: side == 0, np.ones_like)
    )
    np.testing.assert_allclose(found.padding, zeros / places)
    assert found.shapes == {(*s.shape, o.shape[1]) for s, _, o in made_of}


# --- batches by tokens ---


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("budget", [40, 64, 200, 1000, 10**6])
def test_the_token_budget_holds_and_a_longer_sentence_is_alone(tmp_path, seed, budget):
    pairs = made(tmp_path, 400, longest=90)
    found = plan(pairs, batch_size=budget, by="tokens", seed=seed)
    for k in range(len(found)):
        rows, (_, length) = len(found.indices(k)), found.lengths[k]
        assert rows * length <= budget or (rows == 1 and length > budget)
    if budget >= 1000:  # no room is wasted where many sentences fit
        full = [len(found.indices(k)) * found.lengths[k, 1] for k in range(len(found))]
        assert np.median(full) >= 0.75 * min(budget, max(full))


def test_by_tokens_the_rows_are_a_multiple_of_eight_but_in_the_last_batch(tmp_path):
    pairs = made(tmp_path, 403)
    for seed in (None, 1):
        found = plan(pairs, batch_size=900, by="tokens", seed=seed)
        rows = np.diff(found.starts)
        assert np.sum(rows % 8 != 0) == 1 and rows.sum() == 403


# --- order ---


@pytest.mark.parametrize("by, size", WAYS)
def test_order_follows_seed_and_epoch_alone(tmp_path, by, size):
    pairs = made(tmp_path, 300)

    def at(seed, epoch, batch=0):
        position = Position(epoch, batch)
        return lists(batches(pairs, batch_size=size, by=by, seed=seed, position=position))

    assert at(1, 0) == at(1, 0) == lists(batches(pairs, batch_size=size, by=by, seed=1))
    assert at(1, 4) == at(1, 4)
    passes = [at(1, 0), at(1, 1), at(2, 0), at(2, 1)]
    assert all(a != b for a, b in itertools.combinations(passes, 2))
    assert len({len(batches) for batches in passes}) == 1
    assert at(None, 0) == at(None, 9)


def test_batches_mix_other_sentences_and_lengths_every_epoch(tmp_path):
    pairs = made(tmp_path, 1000)
    epochs = [plan(pairs, batch_size=10, seed=1, epoch=e) for e in range(2)]
    groups = [{frozenset(e.indices(k).tolist()) for k in range(len(e))} for e in epochs]
    assert len(groups[0] & groups[1]) < 3
    lengths = epochs[0].lengths[:, 1]
    assert abs(np.corrcoef(lengths[:-1], lengths[1:])[0, 1]) < 0.3


def test_the_epoch_is_read_where_a_pass_begins(tmp_path):
    pairs, position = made(tmp_path, 100), Position()
    dataset = batches(pairs, batch_size=9, seed=1, position=position)
    first = lists(dataset)
    position.epoch = 1
    second = lists(dataset)
    fresh = batches(pairs, batch_size=9, seed=1, position=Position(epoch=1))
    assert first != second == lists(fresh)


@pytest.mark.parametrize("by, size", WAYS)
@pytest.mark.parametrize("seed", [None, 5])
def test_a_position_gives_exactly_the_batches_that_remain(tmp_path, by, size, seed):
    pairs = made(tmp_path, 90)
    options = {"batch_size": size, "by": by, "seed": seed}
    every = lists(batches(pairs, **options, position=Position(3)))
    for batch in range(len(every) + 2):
        rest = batches(pairs, **options, position=Position(3, batch))
        assert len(rest) == len(every[batch:]) and lists(rest) == every[batch:]


# --- workers ---


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("by, size", WAYS)
@pytest.mark.parametrize("seed", [None, 5])
def test_the_shards_together_are_the_batches(tmp_path, workers, by, size, seed):
    pairs = made(tmp_path, 101)
    options = {"batch_size": size, "by": by, "seed": seed, "position": Position(2)}
    whole = arrays(batches(pairs, **options))
    shards = [arrays(batches(pairs, shard=(i, workers), **options)) for i in range(workers)]
    assert {len(shard) for shard in shards} == {len(whole)}
    for k, batch in enumerate(whole):
        for place, part in enumerate(batch):
            mine = [shard[k][place] for shard in shards]
            assert {rows.shape for rows in mine} == {(-(-len(part) // workers), part.shape[1])}
            together = np.concatenate(mine)
            np.testing.assert_array_equal(together[: len(part)], part)
            assert len(together) - len(part) < workers and not together[len(part) :].any()


def test_a_worker_without_a_sentence_gets_rows_of_zeros(tmp_path):
    pairs = made(tmp_path, 4)
    found = [arrays(batches(pairs, batch_size=4, shard=(i, 3)))[0] for i in range(3)]
    assert [len(source) for source, _, _ in found] == [2, 2, 2]
    assert not any(part.any() for part in found[2])
    assert [who(source) for source, _, _ in found[:2]] == [[0, 1], [2, 3]]


# --- shapes ---


def test_lengths_are_rounded_up_in_steps_that_grow():
    lengths = np.arange(1, 5000)
    for multiple in (1, 4, 8):
        rounded = round_up(lengths, multiple)
        assert np.all(rounded >= lengths) and np.all(rounded % multiple == 0)
        assert np.all(np.diff(rounded) >= 0)
        few = lengths[lengths <= 8 * multiple]
        np.testing.assert_array_equal(rounded[: len(few)], -(-few // multiple) * multiple)
        assert np.max(rounded[len(few) :] / lengths[len(few) :]) < 1.25
        assert len(np.unique(rounded)) <= 8 + 4 * np.ceil(np.log2(5000 / 8 / multiple))
    assert round_up([200], 8).dtype == np.int64 and round_up([], 8).tolist() == []


@pytest.mark.parametrize("by, size", [("sentences", 16), ("tokens", 512)])
def test_a_small_set_makes_no_more_batches_than_it_needs(tmp_path, by, size):
    found = plan(made(tmp_path, 12, longest=14), batch_size=size, by=by, seed=1)
    assert len(found) == 1 and len(found.indices(0)) == 12


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """Multi30k, English to German, in 8,000 joint pieces."""
    if not SHARED.exists():
        pytest.skip(f"no real data at {SHARED}")
    paths = [SHARED / "multi30k" / f"train.{language}" for language in ("en", "de")]
    texts = itertools.chain.from_iterable(read_pairs(*paths))
    pieces = SentencePieceTokenizer.from_texts(texts, 8000)
    out = tmp_path_factory.mktemp("multi30k") / "ids"
    return encode_pairs(*paths, pieces, pieces, out, limits=Limits(maximum=100))[0]


@pytest.mark.parametrize("by, size", [("sentences", 64), ("tokens", 4096), ("tokens", 2048)])
def test_real_sentences_have_few_shapes_and_little_padding(joint, by, size):
    epochs = [plan(joint, batch_size=size, by=by, seed=1, epoch=e) for e in range(4)]
    assert len(set().union(*(epoch.shapes for epoch in epochs))) <= 20
    assert all(epoch.padding < 0.16 for epoch in epochs)


# --- refusals ---


def test_what_cannot_be_is_refused(tmp_path):
    pairs = made(tmp_path, 5)
    for make in (plan, batches):
        for name in ("batch_size", "pad_to_multiple"):
            options = {"batch_size": 2, name: 0}
            assert refused(lambda make=make, options=options: make(pairs, **options)) == (
                f"{name}: expected 1 or more, got 0; raise it"
            )
        assert refused(lambda make=make: make(pairs, batch_size=2, by="words")) == (
            'by: expected "sentences" or "tokens", got \'words\'; choose one'
        )
    for shard in ((2, 2), (-1, 2), (0, 0)):
        assert refused(lambda shard=shard: batches(pairs, batch_size=2, shard=shard)) == (
            f"shard: expected (index, count), the index below the count, got {shard}; change it"
        )
