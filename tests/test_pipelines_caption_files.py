"""Files of captions: four formats, every fault named with its line or its place."""

import gzip
import itertools
import json
from pathlib import Path

import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.caption_files import CaptionFaults, Row, caption_rows
from kerasrnn.pipelines.captions import Captioned, read_captions

FOLDER = Path("some/images")
WANTED = [
    Captioned(FOLDER / "a.jpg", ("a dog , running .", "one", 'he said "hi"'), ""),
    Captioned(FOLDER / "b.jpg", ("ünïcode 日本",), ""),
    Captioned(FOLDER / "c.jpg", ("two lines", "end"), ""),
]
ROWS = [
    ("a.jpg", "A dog , running ."),
    ("b.jpg", "  Ünïcode\t日本 "),
    ("a.jpg", "One"),
    ("c.jpg", "Two\nlines"),
    ("a.jpg", 'He said "hi"'),
    ("c.jpg", "end"),
]
MEND = "mend the file"


def csv_text() -> str:
    rows = "".join('{},9,"{}"\n'.format(name, text.replace('"', '""')) for name, text in ROWS)
    return f"image,number,caption\n{rows}"


def token_text() -> str:
    rows = ((name, n, " ".join(text.split())) for n, (name, text) in enumerate(ROWS))
    return "".join(f"{name}#{n}\t{text}\n" for name, n, text in rows)


def karpathy() -> dict:
    names = ("a.jpg", "b.jpg", "c.jpg")
    sentences = {k: [{"raw": t, "tokens": ["no"]} for n, t in ROWS if n == k] for k in names}
    return {"images": [{"filename": name, "sentences": sentences[name]} for name in names]}


def coco() -> dict:
    ids = {"c.jpg": 7, "a.jpg": 300, "b.jpg": 12}
    annotations = [{"image_id": ids[name], "caption": text, "id": 1} for name, text in ROWS]
    images = [{"id": ids[name], "file_name": name} for name in ("a.jpg", "b.jpg", "c.jpg")]
    return {"annotations": annotations, "images": images, "info": {}}


def written(path: Path, content) -> Path:
    if isinstance(content, dict | list):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


def refused_file(tmp_path, content, name="captions.txt") -> str:
    """What is said about a file, with FILE for its path."""
    path = written(tmp_path / name, content)
    return refused(lambda: read_captions(path, FOLDER)).replace(str(path), "FILE")


# --- the four formats ---


@pytest.mark.parametrize(
    "name, content",
    [
        ("captions.csv", csv_text()),
        ("captions.txt", csv_text()),
        ("no-suffix", "\n\n" + csv_text().replace("\n", "\r\n").replace("Two\r\n", "Two\n")),
        (
            "captions.csv",
            csv_text().replace("image,", " image , caption2,", 1).replace("jpg,", "jpg,,"),
        ),
        ("Flickr8k.token.txt", token_text()),
        ("captions.csv", token_text().replace("\n", "\r\n\r\n")),
        ("dataset.json", json.dumps(karpathy())),
        ("dataset.json", json.dumps(karpathy(), indent=1, ensure_ascii=False)),
        ("no-suffix", json.dumps(karpathy(), indent=1)),
        ("captions.json", json.dumps(coco())),
        ("captions.txt", "\n " + json.dumps(coco(), indent=2)),
    ],
)
def test_all_captions_of_an_image_are_together(tmp_path, name, content):
    for packed, mark in itertools.product((False, True), ("", "\ufeff")):
        content_ = (mark + content).encode()
        path = tmp_path / (f"{name}.gz" if packed else name)
        written(path, gzip.compress(content_) if packed else content_)
        assert read_captions(path, FOLDER) == WANTED
        assert read_captions(str(path), str(FOLDER)) == WANTED
    found = read_captions(path, FOLDER, lowercase=False)
    assert [one.captions for one in found] == [
        ("A dog , running .", "One", 'He said "hi"'),
        ("Ünïcode 日本",),
        ("Two lines", "end"),
    ]


def test_each_row_knows_its_place(tmp_path):
    path = written(tmp_path / "c.csv", csv_text() + "\n\nd.jpg,5,last\n")
    assert [row.place for row in caption_rows(path, CaptionFaults())] == [
        f"{path}:{line}" for line in (2, 3, 4, 5, 7, 8, 11)
    ]
    path = written(tmp_path / "c.txt", token_text())
    assert [row.place for row in caption_rows(path, CaptionFaults())] == [
        f"{path}:{n}" for n in range(1, 7)
    ]
    path = written(tmp_path / "d.json", karpathy())
    assert next(caption_rows(path, CaptionFaults())) == Row(
        f"{path}: images[0].sentences[0]", "a.jpg", ROWS[0][1], ""
    )
    path = written(tmp_path / "c.json", coco())
    assert [row.place for row in caption_rows(path, CaptionFaults())] == [
        f"{path}: annotations[{n}]" for n in (0, 2, 4, 1, 3, 5)
    ]


def test_a_name_may_have_a_number_sign_and_a_caption_tabs(tmp_path):
    path = written(tmp_path / "t", "a#1.jpg#0\tone\ttwo #3\tx\n")
    assert read_captions(path, FOLDER) == [(FOLDER / "a#1.jpg", ("one two #3 x",), "")]


def test_paths_inside_the_folder_are_joined(tmp_path):
    path = written(
        tmp_path / "c.csv", "image,caption\nx/a.jpg,one\n./x//a.jpg,two\na..b.jpg,three\n"
    )
    assert read_captions(path, FOLDER) == [
        (FOLDER / "x" / "a.jpg", ("one", "two"), ""),
        (FOLDER / "a..b.jpg", ("three",), ""),
    ]
    data = {"images": [{"filename": "a.jpg", "filepath": "val2014", "sentences": [{"raw": "one"}]}]}
    found = read_captions(written(tmp_path / "d.json", data), FOLDER)
    assert found == [(FOLDER / "val2014" / "a.jpg", ("one",), "")]


def test_restval_is_train_and_images_without_captions_are_left_out(tmp_path):
    data, names = karpathy(), ("restval", "val", "test")
    for image, name in zip(data["images"], names, strict=True):
        image["split"] = name
    data["images"].insert(1, {"filename": "z.jpg", "split": "train", "sentences": []})
    found = read_captions(written(tmp_path / "d.json", data), FOLDER)
    assert [one.image.name for one in found] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [one.split for one in found] == ["train", "val", "test"]
    data = coco()
    data["images"].insert(0, {"id": "z", "file_name": "z.jpg"})
    assert read_captions(written(tmp_path / "c.json", data), FOLDER) == WANTED


def test_real_captions_come_five_to_an_image(shared_data):
    folder = shared_data / "flickr8k_1k"
    found = read_captions(folder / "captions.csv", folder / "images")
    assert len(found) == 900 and {len(one.captions) for one in found} == {5}
    assert all(one.image.exists() for one in found)
    wanted = "a child in a pink dress is climbing up a set of stairs in an entry way ."
    assert found[0].captions[0] == wanted and found[0].image.name == "1000268201_693b08cb0e.jpg"


# --- faults of files ---

HEADER = "expected the columns image and caption in the first line, got"
ABOVE = "write image,caption above the rows"
LINE_FAULTS = [
    ("", "expected a file with captions in it, got FILE, which has none; give another"),
    (
        "image,caption\n",
        "expected a file with captions in it, got FILE, which has none; give another",
    ),
    ("a.jpg,A dog\n", f"{HEADER} 'a.jpg,A dog' in FILE; {ABOVE}"),
    ("image;caption\na;b\n", f"{HEADER} 'image;caption' in FILE; {ABOVE}"),
    ("name,caption\n", f"{HEADER} 'name,caption' in FILE; {ABOVE}"),
    ("image,caption,caption\n", f"{HEADER} 'image,caption,caption' in FILE; {ABOVE}"),
    (
        "image,caption\na,one\n\nb,two, three\n",
        "expected 2 columns in every row, as in the first, got FILE:4 (3 columns); "
        "put captions with commas in quotes",
    ),
    (
        'image,caption\na,"one\ntwo"\nb\n',
        "expected 2 columns in every row, as in the first, got FILE:4 (1 columns); "
        "put captions with commas in quotes",
    ),
    ("image,caption\na,one\nb, \n", f"expected text in every caption, got FILE:3 (empty); {MEND}"),
    ("image,caption\na,one\nb,\n", f"expected text in every caption, got FILE:3 (empty); {MEND}"),
    ('image,caption\na,"one\n', f"expected CSV, got FILE:2 (unexpected end of data); {MEND}"),
    (
        'image,caption\na,one\nb,"x" y\n',
        f"expected CSV, got FILE:3 (',' expected after '\"'); {MEND}",
    ),
    (b"image,caption\na,one\nb,tw\xff\n", f"expected UTF-8, got FILE:3 (not UTF-8); {MEND}"),
    (
        "image,caption\na," + "x" * 70_000,
        f"expected lines of at most 64 KiB, got FILE:2 (over 64 KiB); {MEND}",
    ),
    (
        'image,caption\na,"' + ("x" * 999 + "\n") * 200,
        f"expected CSV, got FILE:133 (field larger than field limit (131072)); {MEND}",
    ),
    (
        "a.jpg#0\tone\nb.jpg two\n",
        "expected NAME#NUMBER, a tab and a caption in every line, got FILE:2 ('b.jpg two'); "
        f"{MEND}",
    ),
    ("a.jpg#0\tone\nb.jpg#1\t\n", f"expected text in every caption, got FILE:2 (empty); {MEND}"),
    (b"a.jpg#0\tone\nb.jpg#0\t\xe4\n", f"expected UTF-8, got FILE:2 (not UTF-8); {MEND}"),
]


@pytest.mark.parametrize("content, message", LINE_FAULTS)
def test_a_fault_in_a_line_is_named_with_file_and_line(tmp_path, content, message):
    assert refused_file(tmp_path, content) == f"captions: {message}"


def karpathy_of(**changed) -> dict:
    """Three images, the last of them changed."""
    data = karpathy()
    data["images"][2].update(changed)
    return data


def coco_of(part: str, **changed) -> dict:
    data = coco()
    data[part][1].update(changed)
    return data


JSON_FAULTS = [
    ('{"images": [\n\n,]}', "expected JSON, got FILE:3 (Expecting value, column 1)"),
    ("", "expected JSON, got FILE:1 (Expecting value, column 1)"),
    (
        '{"images": [\n{"filename',
        "expected JSON, got FILE:2 (Unterminated string starting at, column 2)",
    ),
    (b'{"images":\n "\xff"}', "expected UTF-8, got FILE:2 (not UTF-8)"),
    ([1], 'expected "images", a list, got none in FILE'),
    ({"pictures": []}, 'expected "images", a list, got none in FILE'),
    ({"images": {"a": 1}}, 'expected "images", a list, got {"a": 1} in FILE'),
    ({"images": [5]}, 'expected "filename", a string, got none in FILE: images[0]'),
    (karpathy_of(filename=None), 'expected "filename", a string, got none in FILE: images[2]'),
    (karpathy_of(filename=3), 'expected "filename", a string, got 3 in FILE: images[2]'),
    (karpathy_of(filepath=3), 'expected "filepath", a string, got 3 in FILE: images[2]'),
    (karpathy_of(sentences="x"), 'expected "sentences", a list, got "x" in FILE: images[2]'),
    (
        karpathy_of(sentences=[{"raw": "x"}, {"tokens": ["x"]}]),
        'expected "raw", a string, got none in FILE: images[2].sentences[1]',
    ),
    (
        karpathy_of(sentences=[{"raw": "\n "}]),
        "expected text in every caption, got FILE: images[2].sentences[0] (empty)",
    ),
    (
        karpathy_of(sentences=[{"raw": "x\ud83d"}]),
        "expected Unicode, got FILE: images[2].sentences[0] (half a surrogate pair)",
    ),
    (karpathy_of(split="val"), 'expected "split", a string, got none in FILE: images[0]'),
    (
        {"images": [{"filename": "a", "split": "dev", "sentences": []}]},
        'expected "split", one of train, restval, val, test, got "dev" in FILE: images[0]',
    ),
    (
        {
            "images": [
                {"filename": "a", "split": s, "sentences": [{"raw": s}]} for s in ("val", "test")
            ]
        },
        "expected one split for each image, got val and test for a in FILE: images[1].sentences[0]",
    ),
    ({"annotations": []}, 'expected "images", a list, got none in FILE'),
    ({"images": [], "annotations": 3}, 'expected "annotations", a list, got 3 in FILE'),
    (
        coco_of("images", id=None),
        'expected "id", a number or a string, got none in FILE: images[1]',
    ),
    (coco_of("images", id=[1]), 'expected "id", a number or a string, got [1] in FILE: images[1]'),
    (coco_of("images", id=300), "expected each image's id once, got 300 again in FILE: images[1]"),
    (coco_of("images", file_name=1), 'expected "file_name", a string, got 1 in FILE: images[1]'),
    (
        coco_of("annotations", image_id=99),
        "expected annotations of the images that the file lists, got image_id 99 in "
        "FILE: annotations[1]",
    ),
    (
        coco_of("annotations", image_id=None),
        'expected "image_id", a number or a string, got none in FILE: annotations[1]',
    ),
    (
        coco_of("annotations", caption=None),
        'expected "caption", a string, got none in FILE: annotations[1]',
    ),
    (
        coco_of("annotations", caption=""),
        "expected text in every caption, got FILE: annotations[1] (empty)",
    ),
]


@pytest.mark.parametrize("content, message", JSON_FAULTS)
def test_a_fault_in_json_is_named_with_its_place(tmp_path, content, message):
    assert refused_file(tmp_path, content, "c.json") == f"captions: {message}; {MEND}"


@pytest.mark.parametrize("content", ["[" * 200_000, '{"images": [' + "9" * 5000 + "]}"])
def test_json_that_python_gives_up_on_is_refused(tmp_path, content):
    assert refused_file(tmp_path, content, "c.json").startswith(
        "captions: expected JSON, got FILE ("
    )


def test_all_faulty_captions_are_listed(tmp_path):
    rows = ["image,caption", "a,one", "b,", "c,d,e", *["f,"] * 9, "g,two"]
    some = ", ".join(f"FILE:{line} (empty)" for line in range(5, 13))
    assert refused_file(tmp_path, "\n".join(rows)) == (
        "captions: expected text in every caption and 2 columns in every row, as in the first, got "
        f"11 faulty lines: FILE:3 (empty), FILE:4 (3 columns), {some} and 1 more; "
        "put captions with commas in quotes"
    )
    rows = [b"a.jpg#0\tone", b"\xe4", b"b.jpg#0\t\xe4", b"nothing"]
    assert refused_file(tmp_path, b"\n".join(rows)) == (
        "captions: expected UTF-8 and NAME#NUMBER, a tab and a caption in every line, got "
        f"3 faulty lines: FILE:2 (not UTF-8), FILE:3 (not UTF-8), FILE:4 ('nothing'); {MEND}"
    )


def test_files_without_captions_in_json_are_refused(tmp_path):
    for data in ({"images": []}, {"images": [], "annotations": []}):
        assert refused_file(tmp_path, data) == (
            "captions: expected a file with captions in it, got FILE, which has none; give another"
        )


@pytest.mark.parametrize(
    "name", ["/a.jpg", "../a.jpg", "x/../../a.jpg", "x/..", "", ".", "a\0.jpg"]
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    found = refused_file(tmp_path, {"images": [{"filename": name, "sentences": [{"raw": "x"}]}]})
    assert found == (
        f"captions: expected names of files inside the folder of images, got {name!r} in "
        f"FILE: images[0].sentences[0]; {MEND}"
    )
    if name and "\0" not in name:
        assert refused_file(tmp_path, f"image,caption\n{name},x\n").endswith(
            f"inside the folder of images, got {name!r} in FILE:2; {MEND}"
        )


def test_files_that_cannot_be_read_are_named(tmp_path):
    for name in ("none.csv", "none.json"):
        path = tmp_path / name
        assert refused(lambda path=path: read_captions(path, FOLDER)) == (
            f"captions: expected a file that can be read, got {path} "
            "(No such file or directory); check it"
        )
    wide = csv_text().encode("utf-16")
    assert refused_file(tmp_path, wide) == (
        "captions: expected UTF-8, got FILE, which begins as UTF-16; "
        "convert it: iconv -f UTF-16 -t UTF-8"
    )
