"""Captions: those of an image stay together; each comes once an epoch, with its image."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.captions import (
    Captioned,
    CaptionReport,
    Examples,
    batches,
    encode_captions,
    read_captions,
    split,
)
from kerasrnn.pipelines.dataset import Position
from kerasrnn.pipelines.images import usable
from kerasrnn.pipelines.store import Store
from kerasrnn.text.tokenizers import END, START, CharTokenizer, WordTokenizer

FOLDER = Path("some/images")


def refused(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


# --- splits ---


def captioned(n: int, splits=("",), captions=5) -> list[Captioned]:
    """N images with five captions each, which begin with the image's number."""
    return [
        Captioned(
            FOLDER / f"{k}.jpg",
            tuple(f"{k} {'abcdefgh'[j]}" + " x" * ((3 * k + j) % 7) for j in range(captions)),
            splits[k % len(splits)],
        )
        for k in range(n)
    ]


@pytest.mark.parametrize(
    "n, share, held", [(10, 0.2, 2), (10, 0.25, 2), (900, 1 / 9, 100), (2, 0.5, 1)]
)
def test_a_share_of_the_images_from_all_over_validates(n, share, held):
    every = captioned(n)
    train, valid = split(every, share)
    assert len(valid) == held and len(train) == n - held
    assert sorted(train + valid) == sorted(every) and train == sorted(train, key=every.index)
    places = [every.index(one) for one in valid]
    assert places == sorted(places) and places[-1] == n - 1
    assert max(np.diff([-1, *places])) - min(np.diff([-1, *places])) <= 1
    assert split(every, share) == (train, valid)
    assert all(len(one.captions) == 5 for one in train + valid)


def test_the_files_own_splits_come_first():
    every = captioned(12, ("train", "val", "test"))
    train, valid = split(every, 0.5)
    assert train == every[::3] and valid == every[1::3]


def test_test_images_are_left_out_where_there_is_no_val():
    every = captioned(12, ("train", "test"))
    train, valid = split(every, 0.5)
    assert sorted(train + valid) == sorted(every[::2]) and len(valid) == 3


def test_a_side_without_images_is_refused():
    expected = "captions: expected images to train on"
    for n, share in ((3, 0.1), (3, 0.9), (1, 0.5), (0, 0.5), (5, 0), (5, 1), (5, -0.2), (5, 2)):
        assert refused(lambda n=n, share=share: split(captioned(n), share)) == (
            f"{expected} and some to validate, got {n} images, of which a share of {share:g} is "
            "held out; give more images"
        )
    assert refused(lambda: split(captioned(4, ("val", "test")), 0.5)) == (
        f'{expected}, got none of the split "train"; give the whole file'
    )


# --- ids ---


def test_captions_become_ids_in_order(monkeypatch):
    monkeypatch.setattr("kerasrnn.pipelines.captions.LINES", 7)
    every = captioned(11, captions=3)
    texts = [text for one in every for text in one.captions]
    tokenizer = CharTokenizer.from_texts(texts[:20])
    examples, report = encode_captions(every, tokenizer)
    assert examples.images == [one.image for one in every for _ in one.captions]
    assert all(ids.dtype == np.int32 for ids in examples.ids)
    wanted = tokenizer.tokenize(texts).to_list()
    assert [ids.tolist() for ids in examples.ids] == wanted and len(examples) == 33
    lengths = [len(ids) for ids in wanted]
    for found in (examples.source_lengths, examples.target_lengths):
        assert found.tolist() == lengths and found.dtype == np.int32
    unknown = sum(ids.count(1) for ids in wanted)
    assert report == CaptionReport(33, {}, {}, 11, sum(lengths), unknown) and unknown > 0


def test_long_captions_are_dropped_and_counted():
    every = [
        Captioned(FOLDER / "a.jpg", ("one two", "one two three four")),
        Captioned(FOLDER / "b.jpg", ("one two three four five",)),
        Captioned(FOLDER / "c.jpg", ("one two three", "\u200b", "six")),
    ]
    tokenizer = WordTokenizer.from_texts(["one two three four five"])
    none = len(tokenizer.tokenize(["\u200b"]).to_list()[0]) == 0
    examples, report = encode_captions(every, tokenizer, longest=3)
    assert report.dropped["over 3 tokens"] == 2
    assert report.places["over 3 tokens"] == [f"{FOLDER}/a.jpg", f"{FOLDER}/b.jpg"]
    assert report.dropped.get("under 1 tokens", 0) == none
    assert report.kept == len(examples) == 4 - none and report.images == 2
    assert report.tokens == sum(map(len, examples.ids)) == 7 - none
    assert report.unknown == 2 - none
    assert set(examples.images) == {FOLDER / "a.jpg", FOLDER / "c.jpg"}
    assert str(report).startswith(
        f"{4 - none} captions of 2 images, {7 - none} tokens ({2 - none} unknown); "
    )


def test_no_caption_left_is_refused():
    every = [Captioned(FOLDER / "a.jpg", ("abc", "abcd"))]
    tokenizer = CharTokenizer(list("abcd"))
    assert refused(lambda: encode_captions(every, tokenizer, 2)) == (
        "captions: expected captions that can be used, got 0 captions of 0 images, 0 tokens "
        f"(0 unknown); 2 dropped: 2 over 2 tokens ({FOLDER}/a.jpg, {FOLDER}/a.jpg); "
        "let longer ones in"
    )
    assert refused(lambda: encode_captions(every, tokenizer, 0)) == (
        "maximum length: expected 1 or more, as the minimum is, got 0; raise it"
    )


# --- batches ---


SIDE = 6


def made(tmp_path, n: int, captions=5, dtype=np.uint8) -> tuple[Examples, Store]:
    """N captions of n / `captions` images; caption k begins with k, image j has j in its corner."""
    random = np.random.default_rng(3)
    paths = [tmp_path / f"{j}.png" for j in range(-(-n // captions))]
    for j, path in enumerate(paths):
        image = random.integers(1, 250, [SIDE, SIDE, 3], np.uint8)
        image[0, 0] = j + 1
        Image.fromarray(image).save(path)
    store = Store(tmp_path / "store", dtype.__name__, lambda image: image.astype(dtype))
    store.fill(paths)
    lengths = np.clip(random.gamma(4, 3, n).astype(int) + 2, 2, 40)
    ids = [np.int32([4 + k, *random.integers(4, 90, size - 1)]) for k, size in enumerate(lengths)]
    return Examples([paths[k // captions] for k in range(n)], ids), store


def arrays(dataset) -> list[tuple[np.ndarray, ...]]:
    return [(image.numpy(), i.numpy(), o.numpy()) for (image, i), o in dataset]


def lists(dataset) -> list:
    return [[part.tolist() for part in batch] for batch in arrays(dataset)]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_caption_comes_once_with_its_image_and_marks(tmp_path, seed, dtype):
    examples, store = made(tmp_path, 103, dtype=dtype)
    seen = []
    dataset = batches(examples, store, batch_size=8, seed=seed, pad_to_multiple=3)
    (image, target_in), target_out = dataset.element_spec
    assert image == tf.TensorSpec([None, SIDE, SIDE, 3], dtype)
    assert target_in == target_out == tf.TensorSpec([None, None], tf.int32)
    for images, inputs, outputs in arrays(dataset):
        assert images.dtype == dtype and inputs.shape == outputs.shape
        assert len(images) == len(inputs) and inputs.shape[1] % 3 == 0
        for image, read, said in zip(images, inputs, outputs, strict=True):
            k = read[1] - 4
            np.testing.assert_array_equal(image, store.read([examples.images[k]])[0])
            assert image[0, 0, 0] == k // 5 + 1
            ids = examples.ids[k].tolist()
            rest = [0] * (len(read) - len(ids) - 1)
            assert read.tolist() == [START, *ids, *rest] and said.tolist() == [*ids, END, *rest]
            seen.append(int(k))
    assert sorted(seen) == list(range(103)) and (seen == list(range(103))) == (seed is None)
    assert len(dataset) == 13


def test_captions_of_similar_length_are_together(tmp_path):
    examples, store = made(tmp_path, 200)
    shares = [
        np.mean(np.concatenate([(o == 0).ravel() for _, _, o in arrays(dataset)]))
        for dataset in (batches(examples, store, batch_size=8, seed=s) for s in (1, None))
    ]
    assert shares[0] < 0.6 * shares[1]


def test_order_follows_seed_and_epoch_alone(tmp_path):
    examples, store = made(tmp_path, 60)

    def at(seed, epoch):
        position = Position(epoch)
        return lists(batches(examples, store, batch_size=7, seed=seed, position=position))

    assert at(1, 0) == at(1, 0) == lists(batches(examples, store, batch_size=7, seed=1))
    passes = [at(1, 0), at(1, 1), at(2, 0), at(2, 1)]
    assert all(a != b for a, b in itertools.combinations(passes, 2))
    assert at(None, 0) == at(None, 9)
    position = Position()
    dataset = batches(examples, store, batch_size=7, seed=1, position=position)
    assert lists(dataset) == passes[0]
    position.epoch = 1
    assert lists(dataset) == passes[1]


@pytest.mark.parametrize("seed", [None, 5])
def test_a_position_gives_exactly_the_batches_that_remain(tmp_path, seed):
    examples, store = made(tmp_path, 50)
    options = {"batch_size": 7, "seed": seed}
    every = lists(batches(examples, store, **options, position=Position(3)))
    for batch in (1, 4, len(every), len(every) + 1):
        rest = batches(examples, store, **options, position=Position(3, batch))
        assert len(rest) == len(every[batch:]) and lists(rest) == every[batch:]


@pytest.mark.parametrize("workers", [2, 3])
def test_the_shards_together_are_the_batches(tmp_path, workers):
    examples, store = made(tmp_path, 22)
    options = {"batch_size": 7, "seed": 5, "position": Position(2)}
    whole = arrays(batches(examples, store, **options))
    shards = [
        arrays(batches(examples, store, shard=(i, workers), **options)) for i in range(workers)
    ]
    for k, batch in enumerate(whole):
        for place, part in enumerate(batch):
            mine = [shard[k][place] for shard in shards]
            assert {rows.shape for rows in mine} == {(-(-len(part) // workers), *part.shape[1:])}
            together = np.concatenate(mine)
            np.testing.assert_array_equal(together[: len(part)], part)
            assert not together[len(part) :].any()
    assert sorted(len(batch[0]) for batch in whole) == [1, 7, 7, 7]


def test_what_cannot_be_is_refused(tmp_path):
    examples, store = made(tmp_path, 5)
    for name in ("batch_size", "pad_to_multiple"):
        options = {"batch_size": 2, name: 0}
        assert refused(lambda options=options: batches(examples, store, **options)) == (
            f"{name}: expected 1 or more, got 0; raise it"
        )
    assert refused(lambda: batches(examples, store, batch_size=2, shard=(2, 2))) == (
        "shard: expected (index, count), the index below the count, got (2, 2); change it"
    )
    empty = Store(tmp_path / "store", "other", lambda image: image)
    assert refused(lambda: batches(examples, empty, batch_size=2)).startswith(
        "image: expected one that the store was filled with"
    )


def test_real_photos_and_captions_make_batches(shared_data, tmp_path):
    folder = shared_data / "flickr8k_1k"
    every = read_captions(folder / "captions.csv", folder / "images")[::30]
    kept, _ = usable(every)
    train, valid = split(kept, 0.1)
    tokenizer = WordTokenizer.from_texts(text for one in train for text in one.captions)
    store = Store(
        tmp_path, "small", lambda pixels: np.array(Image.fromarray(pixels).resize((32, 32)))
    )
    store.fill(one.image for one in kept)
    for side, seed in ((train, 1), (valid, None)):
        examples, report = encode_captions(side, tokenizer, longest=30)
        assert report.images == len(side) and report.kept <= 5 * len(side)
        found = arrays(batches(examples, store, batch_size=16, seed=seed))
        assert sum(len(images) for images, _, _ in found) == report.kept
        assert sum(int(np.sum(out != 0)) for _, _, out in found) == report.tokens + report.kept
        assert {images.shape[1:] for images, _, _ in found} == {(32, 32, 3)}
    assert report.unknown > 0
