"""Built-in scenes: what the captions say is what the pictures show, and the checker knows it."""

import csv
import itertools

import numpy as np
import pytest
from PIL import Image

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines import scenes
from kerasrnn.pipelines.scenes import (
    COLOURS,
    KINDS,
    SIZE,
    SIZES,
    Mention,
    Shape,
    covered,
    is_true,
    mentions,
    referred,
    scene,
    write_scenes,
)

INVERSE = {
    "above": "below",
    "below": "above",
    "to the left of": "to the right of",
    "to the right of": "to the left of",
}
CIRCLE = Shape("circle", "red", "large", (8, 4, 32, 28))  # centre 20, 16
SQUARE = Shape("square", "blue", "small", (24, 40, 36, 52))  # centre 30, 46
TRIANGLE = Shape("triangle", "green", "small", (48, 8, 60, 20))  # centre 54, 14
HAND_MADE = (CIRCLE, SQUARE, TRIANGLE)


@pytest.fixture(scope="module")
def drawn():
    return [scene(3, number) for number in range(500)]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_seed_and_the_number_make_the_scene():
    first, again, other, later = scene(5, 7), scene(5, 7), scene(6, 7), scene(5, 8)
    assert first[1:] == again[1:] and (first.image == again.image).all()
    for unlike in (other, later):
        assert first.shapes != unlike.shapes and (first.image != unlike.image).any()


def test_every_caption_is_true_and_speaks_of_two_shapes_where_there_are(drawn):
    for _, shapes, captions in drawn:
        for caption in captions:
            found = referred(caption, shapes)
            assert found is not None and len(set(found)) == min(len(shapes), 2), caption
            words = caption.split()
            for mention, shape in zip(mentions(caption), found, strict=True):
                assert mention[:3] == (shape.size, shape.colour, shape.kind)
                assert words[mention.word - 2 : mention.word + 1] == list(mention[:3])


def test_captions_are_four_in_few_words_and_many_phrasings(drawn):
    assert {len(one.captions) for one in drawn} == {4}
    assert {len(set(one.captions)) for one in drawn} == {4}
    captions = [caption for one in drawn for caption in one.captions]
    assert len({word for caption in captions for word in caption.split()}) == 25
    assert all(type(caption) is str and caption == caption.lower() for caption in captions)
    patterns = set()
    for caption in captions:
        for mention in mentions(caption):
            caption = caption.replace(" ".join(mention[:3]), "_")
        patterns.add(caption)
    for pattern in (
        "a picture of a _",
        "the picture shows a _",
        "a _ above a _",
        "there is a _ and a _",
        "here is a _ below a _",
        "a _ to the left of a _",
        "the picture shows a _ to the right of a _",
    ):
        assert pattern in patterns
    assert len(patterns) == 5 * (1 + 5)  # leads x joints


def test_the_most_prominent_are_named_in_order():
    large = Shape("square", "red", "large", (38, 38, 62, 62))
    upper = Shape("circle", "blue", "small", (20, 3, 32, 15))
    lower = Shape("circle", "green", "small", (3, 40, 15, 52))
    assert set(scenes._sentences((lower, upper, large))) == {
        f"{lead}a large red square {joint} a small blue circle"
        for lead in scenes.LEADS
        for joint in ("and", "below")
    }


def test_a_relation_is_said_only_where_it_is_plain():
    first = Shape("circle", "red", "small", (20, 20, 32, 32))
    for offset, expected in (
        ((14, 0), {"to the left of"}),
        ((14, 13), {"to the left of"}),
        ((-13, 14), {"above"}),
        ((3, -10), {"above"}),
        ((3, -9), set()),
        ((14, 14), set()),
    ):
        x, y = offset
        second = Shape("square", "blue", "small", (20 + x, 20 + y, 32 + x, 32 + y))
        said = scenes._sentences((first, second))
        assert {name for name in INVERSE for text in said if f" {name} " in text} == expected
        assert all(is_true(text, (first, second)) for text in said)


def test_shapes_are_inside_apart_and_told_apart(drawn):
    for _, shapes, _ in drawn:
        assert len({(one.size, one.colour, one.kind) for one in shapes}) == len(shapes) <= 3
        for shape in shapes:
            left, top, right, bottom = shape.box
            least, most = SIZES[shape.size]
            assert 0 < left and 0 < top and right < SIZE and bottom < SIZE
            assert least <= right - left == bottom - top <= most
        for one, other in itertools.combinations(shapes, 2):
            (l1, t1, r1, b1), (l2, t2, r2, b2) = one.box, other.box
            assert r1 < l2 or r2 < l1 or b1 < t2 or b2 < t1
    every = [shape for one in drawn for shape in one.shapes]
    for field, values in (("kind", KINDS), ("colour", COLOURS), ("size", SIZES)):
        assert {getattr(shape, field) for shape in every} == set(values)
    assert {len(one.shapes) for one in drawn} == {1, 2, 3}


def test_shapes_have_their_colour_and_backgrounds_have_none(drawn):
    names, colours = list(COLOURS), np.array(list(COLOURS.values()))
    for image, shapes, _ in drawn:
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
        outside = np.ones((SIZE, SIZE), bool)
        for shape in shapes:
            x, y = map(int, shape.centre)
            distances = np.abs(colours - image[y, x]).max(axis=1)
            assert names[distances.argmin()] == shape.colour and distances.min() <= 12
            left, top, right, bottom = shape.box
            outside[top:bottom, left:right] = False
        background = image[outside].astype(int)
        assert np.ptp(background, axis=1).max() <= 21  # grey, or nearly: colours have 125 and more
        assert len(np.unique(background[:, 0])) > 5  # a texture


def test_kinds_are_drawn_as_their_names_say(drawn):
    """The share of the box that is painted: a square's all, a circle's pi / 4, a triangle's 1/2."""
    shares = {"square": 1, "circle": np.pi / 4, "triangle": 0.5}
    for image, shapes, _ in drawn[:100]:
        for shape in shapes:
            left, top, right, bottom = shape.box
            inside = image[top:bottom, left:right].astype(int)
            x, y = map(int, shape.centre)
            alike = np.abs(inside - image[y, x]).max(axis=2) < 40
            assert abs(alike.mean() - shares[shape.kind]) < 0.09, shape
            assert alike[0, 0] == (shape.kind == "square")
            assert alike[-1, 1] == (shape.kind != "circle")


def test_what_is_so_is_true():
    for caption in (
        "a large red circle",
        "the picture shows a small green triangle",
        "a small blue square below a large red circle",
        "there is a large red circle above a small blue square",
        "a large red circle to the left of a small blue square",  # less plain, and yet so
        "a picture of a small green triangle and a large red circle and a small blue square",
        "a small blue square and a small green triangle to the right of a large red circle",
        "a large red circle to the left of a small green triangle above a small blue square",
    ):
        assert is_true(caption, HAND_MADE), caption


def test_one_wrong_word_makes_a_caption_false():
    caption = "a large red circle above a small blue square and a small green triangle"
    assert is_true(caption, HAND_MADE)
    words = caption.split()
    changes = (SIZES, COLOURS, KINDS, ("above", "below"))
    for place, word in enumerate(words):
        for other in {other for names in changes if word in names for other in names} - {word}:
            changed = " ".join([*words[:place], other, *words[place + 1 :]])
            assert mentions(changed) and not is_true(changed, HAND_MADE), changed


def test_an_inverted_relation_is_false(drawn):
    inverted = 0
    for _, shapes, captions in drawn:
        for caption in captions:
            for name, inverse in INVERSE.items():
                if f" {name} " in caption:
                    changed = caption.replace(name, inverse)
                    assert mentions(changed) and not is_true(changed, shapes), changed
                    inverted += 1
    assert inverted > 500


def test_a_relation_holds_from_four_pixels():
    for offset, so in ((3, False), (4, True), (-4, False)):
        lower = Shape("square", "blue", "small", (40, 10 + offset, 52, 22 + offset))
        upper = Shape("circle", "red", "small", (10, 10, 22, 22))
        assert is_true("a small red circle above a small blue square", (lower, upper)) is so
        assert is_true("a small blue square below a small red circle", (lower, upper)) is so


def test_each_mention_needs_a_shape_of_its_own():
    one = Shape("circle", "red", "small", (10, 10, 22, 22))
    two = Shape("circle", "red", "small", (40, 10, 52, 22))
    twice = "a small red circle and a small red circle"
    assert not is_true(twice, (one,)) and is_true(twice, (one, two))
    left = "a small red circle to the left of a small red circle"
    assert referred(left, (two, one)) == [one, two]
    assert not is_true(f"{left} and a small red circle", (one, two))
    assert referred("a small red circle", ()) is None


def test_the_shapes_come_in_the_order_of_the_mentions():
    caption = "there is a small green triangle and a small blue square below a large red circle"
    assert referred(caption, HAND_MADE) == [TRIANGLE, SQUARE, CIRCLE]
    assert mentions(caption) == [
        Mention("small", "green", "triangle", 5),
        Mention("small", "blue", "square", 10),
        Mention("large", "red", "circle", 15),
    ]
    assert [one.word for one in mentions("a picture of a large red circle")] == [6]


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "circle",
        "there is",
        "a red circle",
        "a large red circle.",
        "A large red circle",
        "a large red circle ",
        "a large red circle\n",
        "a large  red circle",
        "a large red circles",
        "the large red circle",
        "a large pink circle",
        "large red circle",
        "a large red circle and",
        "and a large red circle",
        "a large red circle a small blue square",
        "a large red circle and and a small blue square",
        "a large red circle left of a small blue square",
        "a large red circle and there is a small blue square",
        "there is there is a large red circle",
    ],
)
def test_what_is_not_of_the_grammar_is_false(caption):
    assert mentions(caption) == [] and not is_true(caption, HAND_MADE)
    assert referred(caption, HAND_MADE) is None


def test_the_cells_that_a_box_overlaps():
    def cells(*box):
        return covered(Shape("square", "red", "small", box), 4).astype(int).tolist()

    assert cells(15, 33, 31.5, 40) == [[0] * 4, [0] * 4, [1, 1, 0, 0], [0] * 4]
    assert cells(16, 16, 32, 48) == [
        [0] * 4,
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0] * 4,
    ]  # edges only meet
    assert cells(40, 0, 64, 17) == [[0, 0, 1, 1], [0, 0, 1, 1], [0] * 4, [0] * 4]
    uneven = covered(CIRCLE, 3)  # cells of 21 1/3 pixels
    assert uneven.dtype == bool
    assert uneven.tolist() == [[True, True, False], [True, True, False], [False] * 3]


def test_the_files_hold_the_scenes(tmp_path):
    files = write_scenes(tmp_path / "made" / "here", seed=2, train=12, valid=3)
    assert files == tuple(
        tmp_path / "made" / "here" / n for n in ("images", "train.csv", "valid.csv")
    )
    names = [f"{number:05d}.png" for number in range(15)]
    assert sorted(path.name for path in files.images.iterdir()) == names
    for table, numbers in ((files.train, range(12)), (files.valid, range(12, 15))):
        expected = [
            {"image": names[number], "caption": caption}
            for number in numbers
            for caption in scene(2, number).captions
        ]
        assert rows(table) == expected and len(expected) == 4 * len(numbers)
    for number, name in enumerate(names):
        with Image.open(files.images / name) as picture:
            assert picture.mode == "RGB" and picture.size == (64, 64)
            assert (np.asarray(picture) == scene(2, number).image).all()


def test_numbers_that_cannot_be_are_refused(tmp_path):
    for options, message in (
        ({"seed": -1}, "seed: expected 0 or more, got -1; raise it"),
        ({"train": 0}, "train: expected 1 or more, got 0; raise it"),
        ({"valid": 0}, "valid: expected 1 or more, got 0; raise it"),
    ):
        with pytest.raises(InputError) as error:
            write_scenes(tmp_path / "none", **options)
        assert str(error.value) == message and not (tmp_path / "none").exists()
