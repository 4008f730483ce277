"""Images changed at random: as seed, epoch and batch say and nothing else; captions never."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.augmentation import coloured, cropped, flipped
from kerasrnn.pipelines.captions import batches
from kerasrnn.pipelines.dataset import Position
from tests.test_pipelines_captions import arrays, lists, made

STAGES = {"flipped": flipped, "cropped": cropped, "coloured": coloured}


def every_stage(seed):
    return lambda dataset: coloured(cropped(flipped(dataset, seed), seed), seed)


def changed(stage, images, place=(0, 0, 0), seed=1, **options) -> np.ndarray:
    """What a stage makes of one batch."""
    batch = ((np.asarray(images), [[4, 5]]), [[5, 6]])
    dataset = stage(tf.data.Dataset.from_tensors((list(place), batch)), seed, **options)
    found_place, ((found, target_in), target_out) = next(iter(dataset))
    assert found_place.numpy().tolist() == list(place)
    assert (target_in.numpy().tolist(), target_out.numpy().tolist()) == ([[4, 5]], [[5, 6]])
    assert found.dtype == tf.uint8 and found.shape == np.shape(images)
    return found.numpy()


def noise(rows=40, side=9) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, [rows, side, side, 3], np.uint8)


def refused(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


# --- what each stage does ---


def test_half_of_the_images_are_mirrored_and_the_others_are_as_they_were():
    images = noise(200)
    found = changed(flipped, images)
    kept = [np.array_equal(a, b) for a, b in zip(found, images, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(found, images, strict=True)]
    assert all(a != b for a, b in zip(kept, mirrored, strict=True))
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("least", [0.4, 0.8])
def test_a_crop_is_a_square_box_of_at_least_that_share(least):
    """Of a ramp to the right and one downwards a box is a ramp, and its ends say where it was."""
    side, rows = 31, 300
    ramp = np.linspace(0, 250, side)
    image = np.zeros([rows, side, side, 3])
    image[..., 0], image[..., 1] = ramp, ramp[:, None]
    found = changed(cropped, np.round(image).astype(np.uint8), least=least).astype(float)
    ends = []
    for across, down in zip(found[..., 0], found[..., 1], strict=True):
        np.testing.assert_array_equal(across, np.tile(across[0], [side, 1]))
        np.testing.assert_array_equal(down, np.tile(down[:, :1], [1, side]))
        for line in (across[0], down[:, 0]):
            np.testing.assert_allclose(line, np.linspace(line[0], line[-1], side), atol=1.6)
        ends.append([across[0, 0], across[0, -1], down[0, 0], down[-1, 0]])
    left, right, top, bottom = np.array(ends).T / 250
    np.testing.assert_allclose(right - left, bottom - top, atol=0.01)
    assert least - 0.01 <= (right - left).min() < least + 0.05
    assert 0.95 < (right - left).max() <= 1
    for start, stop in ((left, right), (top, bottom)):
        place = start / (1 - (stop - start) + 1e-9)
        assert place[stop - start < 0.95].min() < 0.1 and place[stop - start < 0.95].max() > 0.9
    assert abs(np.corrcoef(left, top)[0, 1]) < 0.9


def test_no_crop_reaches_beyond_the_edge(monkeypatch):
    """A rounding error beyond it would be a black line."""
    sizes = np.linspace(0, 1, 400, dtype=np.float32)
    for corner in (1, np.nextafter(np.float32(1), np.float32(0))):
        chances = np.stack([sizes, *[np.full_like(sizes, corner)] * 2], 1)
        monkeypatch.setattr(
            tf.random, "stateless_uniform", lambda *_, c=chances, **__: tf.constant(c)
        )
        for side in (7, 50, 224):
            images = np.full([len(sizes), side, side, 3], 200, np.uint8)
            assert changed(cropped, images, least=0.3).min() == 200


def test_a_whole_crop_changes_nothing():
    np.testing.assert_array_equal(changed(cropped, noise(), least=1), noise())


def test_colours_follow_the_three_factors(monkeypatch):
    images, most = noise(8), 0.5
    chances = np.random.default_rng(1).random([8, 3]).astype(np.float32)
    chances[:3] = [[0, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 0]]
    monkeypatch.setattr(
        tf.random, "stateless_uniform", lambda shape, key, alg: tf.constant(chances)
    )
    found = changed(coloured, images, most=most)
    weights = np.array([0.2989, 0.587, 0.114])
    for image, draws, result in zip(images, chances, found, strict=True):
        bright, contrast, saturation = 1 - most + 2 * most * draws.astype(float)
        wanted = image * bright
        mean = (wanted @ weights).mean()
        wanted = mean + contrast * (wanted - mean)
        grey = (wanted @ weights)[..., None]
        wanted = np.clip(grey + saturation * (wanted - grey), 0, 255)
        assert np.abs(result - wanted).max() < 0.51
    assert np.abs(found[0] - images[0] / 2).max() <= 0.5


def test_factors_of_one_change_nothing_and_black_stays_black():
    np.testing.assert_array_equal(changed(coloured, noise(), most=0), noise())
    assert not changed(coloured, np.zeros([50, 4, 4, 3], np.uint8), most=0.9).any()


def test_each_image_of_a_batch_is_changed_by_itself():
    for name, stage in STAGES.items():
        images = noise(1).repeat(12, 0)
        different = {image.tobytes() for image in changed(stage, images)}
        assert len(different) == (2 if name == "flipped" else 12), name


# --- random numbers ---


def test_no_two_stages_epochs_batches_or_seeds_share_their_numbers(monkeypatch):
    draw, keys = tf.random.stateless_uniform, []

    def recorded(shape, key, alg):
        tf.numpy_function(lambda k: keys.append(tuple(k.tolist())), [key], [])
        return draw(shape, key, alg=alg)

    monkeypatch.setattr(tf.random, "stateless_uniform", recorded)
    for seed, epoch, batch, stage in itertools.product(
        (0, 1, 2**40), (0, 1), (0, 1), STAGES.values()
    ):
        changed(stage, noise(2), (epoch, batch, 0), seed)
    assert len(keys) == len(set(keys)) == 36


@pytest.mark.parametrize("name", STAGES)
def test_a_row_is_changed_as_its_place_in_the_global_batch_says(name):
    images = noise(12)
    whole = changed(STAGES[name], images, (3, 2, 0))
    for first, rows in ((0, 5), (5, 4), (9, 3)):
        part = changed(STAGES[name], images[first : first + rows], (3, 2, first))
        np.testing.assert_array_equal(part, whole[first : first + rows])
    assert not np.array_equal(changed(STAGES[name], images, (3, 2, 1)), whole)


# --- in batches ---


def test_each_batch_and_worker_draws_its_own_numbers(tmp_path):
    examples, store = made(tmp_path, 40, captions=40)
    for shard in ((0, 1), (0, 2), (1, 2)):
        dataset = batches(examples, store, batch_size=10, shard=shard, augment=every_stage(1))
        images = np.concatenate([image for image, _, _ in arrays(dataset)])
        assert len({image.tobytes() for image in images}) == len(images) == 40 // shard[1]


def test_augmentation_repeats_and_another_epoch_or_seed_differs(tmp_path):
    examples, store = made(tmp_path, 40)

    def at(epoch, seed):
        options = {"batch_size": 9, "position": Position(epoch), "augment": every_stage(seed)}
        return lists(batches(examples, store, **options))

    plain = lists(batches(examples, store, batch_size=9))
    assert at(0, 1) == at(0, 1)
    passes = [at(0, 1), at(1, 1), at(0, 2)]
    for one, other in itertools.combinations([plain, *passes], 2):
        for (images, *captions), (other_images, *other_captions) in zip(one, other, strict=True):
            assert images != other_images and captions == other_captions


def test_going_on_after_an_interruption_gives_the_same(tmp_path):
    examples, store = made(tmp_path, 40)
    options = {"batch_size": 9, "seed": 5, "augment": every_stage(3)}
    position = Position(2)
    dataset = batches(examples, store, **options, position=position)
    every = lists(dataset)
    position.epoch = 3
    later = lists(dataset)
    for batch in (1, 3):
        for epoch, wanted in ((2, every), (3, later)):
            rest = batches(examples, store, **options, position=Position(epoch, batch))
            assert len(rest) == len(wanted) - batch and lists(rest) == wanted[batch:]


def test_the_shards_together_are_the_augmented_batches(tmp_path):
    examples, store = made(tmp_path, 22)
    options = {"batch_size": 7, "seed": 5, "position": Position(2), "augment": every_stage(3)}
    whole = arrays(batches(examples, store, **options))
    for workers in (2, 3):
        shards = [
            arrays(batches(examples, store, shard=(i, workers), **options)) for i in range(workers)
        ]
        for k, batch in enumerate(whole):
            for place, part in enumerate(batch):
                together = np.concatenate([shard[k][place] for shard in shards])
                np.testing.assert_array_equal(together[: len(part)], part)
                assert not together[len(part) :].any()


def test_an_augmented_dataset_is_still_counted_and_has_its_shape(tmp_path):
    examples, store = made(tmp_path, 22)
    plain, augmented = (
        batches(examples, store, batch_size=7, augment=a) for a in (None, every_stage(1))
    )
    assert len(augmented) == len(plain) == 4
    assert augmented.element_spec[1] == plain.element_spec[1]
    for spec in (plain.element_spec[0][0], augmented.element_spec[0][0]):
        assert spec.dtype == tf.uint8 and spec.shape.rank == 4
    assert not augmented.options().autotune.enabled


# --- refusals ---


def test_what_cannot_be_is_refused(tmp_path):
    examples, store = made(tmp_path, 5, dtype=np.float32)
    for stage in STAGES.values():
        augment = lambda dataset, stage=stage: stage(dataset, 1)  # noqa: E731
        assert refused(lambda a=augment: batches(examples, store, batch_size=2, augment=a)) == (
            "augment: expected images uint8 [B, S, S, 3], got float32 (None, 6, 6, 3); "
            "change pixels, not features"
        )
    for least in (0, -1, 1.1):
        assert refused(lambda least=least: cropped(None, 1, least)) == (
            f"least: expected a share above 0, at most 1, got {least}; use 0.8"
        )
    for most in (-0.1, 1):
        assert refused(lambda most=most: coloured(None, 1, most)) == (
            f"most: expected a share from 0 to below 1, got {most}; use 0.2"
        )
