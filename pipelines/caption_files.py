"""Reads captions from four kinds of files, one row for each caption.

The kinds are CSV (`image,caption`), the token file of Flickr8k, Karpathy's JSON and COCO's JSON.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.reading import EMPTY, LINE_FAULTS, blocks, lines, text_of
from kerasrnn.pipelines.reports import Faults

TOKEN = re.compile(r"(.+?)#\d+\t(.*)")  # 1000268201_693b08cb0e.jpg#0 A child in a pink dress
SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
KINDS = {str: "a string", list: "a list", (int, str): "a number or a string"}


class Row(NamedTuple):
    """One caption of a file.

    Attributes:
        place: where it stands in the file, for messages.
        name: name of the image's file.
        caption: the text.
        split: "train", "val", "test", or "" when the file has no splits.
    """

    place: str
    name: str
    caption: str
    split: str


def refusal(expected: str, received: str, next_step: str = "mend the file") -> InputError:
    """The error about a file of captions."""
    return InputError("captions", expected, received, next_step)


class CaptionFaults(Faults):
    """Faulty captions, collected to be refused together.

    Attributes:
        expected: what a caption must be, for each reason.
    """

    def __init__(self):
        super().__init__("captions")
        self.expected: dict[str, str] = {}

    def note(self, reason: str, place: str, expected: str) -> None:
        """Add a fault, and the text that says what was expected instead."""
        self.add(reason, place)
        self.expected[reason] = expected

    def refuse_all(self) -> None:
        """Raise InputError about all the faults, if there are any."""
        columns = any("columns" in reason for reason in self.reasons)
        step = "put captions with commas in quotes" if columns else "mend the file"
        self.refuse(self.expected, step)


def _texts(path: Path, faults: CaptionFaults) -> Iterator[str]:
    """The lines of the file as text. A faulty line is noted and becomes an empty one."""
    for number, line in enumerate(lines(path, "captions"), 1):
        text, fault = text_of(line)
        if fault not in ("", EMPTY):
            faults.note(fault, f"{path}:{number}", LINE_FAULTS[fault])
        yield text


def _columns(path: Path, header: list[str]) -> list[int]:
    """The positions of the columns `image` and `caption`."""
    names = [name.strip() for name in header]
    if any(names.count(name) != 1 for name in ("image", "caption")):
        expected = "the columns image and caption in the first line"
        received = f"{','.join(names)[:80]!r} in {path}"
        raise refusal(expected, received, "write image,caption above the rows")
    return [names.index("image"), names.index("caption")]


def _csv_rows(path: Path, faults: CaptionFaults) -> Iterator[Row]:
    """The rows of a CSV file; columns with other names are ignored."""
    reader = csv.reader((f"{text}\n" for text in _texts(path, faults)), strict=True)
    try:
        if not (header := next(filter(None, reader), [])):
            return
        image, caption = _columns(path, header)
        # A quoted caption may span lines: a row begins after the line where the last one ended.
        line = reader.line_num + 1
        for row in reader:
            place, line = f"{path}:{line}", reader.line_num + 1
            if row and len(row) != len(header):
                expected = f"{len(header)} columns in every row, as in the first"
                faults.note(f"{len(row)} columns", place, expected)
            elif row:
                yield Row(place, row[image], row[caption], "")
    except csv.Error as error:
        raise refusal("CSV", f"{path}:{reader.line_num} ({error})") from error


def _token_rows(path: Path, faults: CaptionFaults) -> Iterator[Row]:
    """The rows of a token file: image name, #, number, tab, caption."""
    for number, text in enumerate(_texts(path, faults), 1):
        match = TOKEN.fullmatch(text)
        if match:
            yield Row(f"{path}:{number}", *match.groups(), "")
        elif text.strip():
            expected = "NAME#NUMBER, a tab and a caption in every line"
            faults.note(repr(text[:40]), f"{path}:{number}", expected)


def _json(path: Path):
    """The file's content as Python objects."""
    content = b"".join(blocks(path, "captions"))
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refusal("UTF-8", f"{path}:{line} (not UTF-8)") from error
    except json.JSONDecodeError as error:
        received = f"{path}:{error.lineno} ({error.msg}, column {error.colno})"
        raise refusal("JSON", received) from error
    except (ValueError, RecursionError) as error:  # a huge number; deep nesting
        raise refusal("JSON", f"{path} ({error})") from error


def _value(holder, key: str, kind, place: str):
    """Read `holder[key]`, which must have the type `kind`; `place` is the place of `holder`."""
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, kind):
        shown = "none" if value is None else json.dumps(value)[:40]
        raise refusal(f'"{key}", {KINDS[kind]}', f"{shown} in {place}")
    return value


def _split(image: dict, place: str) -> str:
    """The split of one image in Karpathy's JSON."""
    name = _value(image, "split", str, place)
    if name not in SPLITS:
        raise refusal(f'"split", one of {", ".join(SPLITS)}', f'"{name[:40]}" in {place}')
    return SPLITS[name]


def _karpathy_rows(path: Path, data: dict) -> Iterator[Row]:
    """The rows of Karpathy's JSON. Either all images have a split, or none has."""
    images = _value(data, "images", list, str(path))
    is_split = any("split" in image for image in images if isinstance(image, dict))
    for number, image in enumerate(images):
        place = f"{path}: images[{number}]"
        name = _value(image, "filename", str, place)
        if image.get("filepath"):
            name = f"{_value(image, 'filepath', str, place)}/{name}"
        split = _split(image, place) if is_split else ""
        for nth, sentence in enumerate(_value(image, "sentences", list, place)):
            inner = f"{place}.sentences[{nth}]"
            yield Row(inner, name, _value(sentence, "raw", str, inner), split)


def _coco_rows(path: Path, data: dict) -> Iterator[Row]:
    """The rows of COCO's JSON, in the order of its images."""
    names, captions = {}, {}
    for number, image in enumerate(_value(data, "images", list, str(path))):
        place = f"{path}: images[{number}]"
        key = _value(image, "id", (int, str), place)
        if key in names:
            raise refusal("each image's id once", f"{json.dumps(key)} again in {place}")
        names[key], captions[key] = _value(image, "file_name", str, place), []
    for number, annotation in enumerate(_value(data, "annotations", list, str(path))):
        place = f"{path}: annotations[{number}]"
        key = _value(annotation, "image_id", (int, str), place)
        if key not in names:
            expected = "annotations of the images that the file lists"
            raise refusal(expected, f"image_id {json.dumps(key)} in {place}")
        captions[key].append((place, _value(annotation, "caption", str, place)))
    for key, name in names.items():
        yield from (Row(place, name, caption, "") for place, caption in captions[key])


def _json_rows(path: Path, faults: CaptionFaults) -> Iterator[Row]:
    """The rows of a JSON file; only COCO's has the key `annotations`."""
    data = _json(path)
    is_coco = isinstance(data, dict) and "annotations" in data
    return (_coco_rows if is_coco else _karpathy_rows)(path, data)


def _reader(path: Path) -> Callable[[Path, CaptionFaults], Iterator[Row]]:
    """The function that reads this kind of file, by its name and first non-empty line."""
    first = next((line for line in lines(path, "captions") if line.strip()), b"")
    if path.name.removesuffix(".gz").endswith(".json") or first.lstrip().startswith(b"{"):
        return _json_rows
    return _token_rows if TOKEN.fullmatch(first.decode(errors="replace")) else _csv_rows


def caption_rows(path: str | Path, faults: CaptionFaults) -> Iterator[Row]:
    r"""Read the captions of a file, plain or gzip.

    They come in the order of the file, or for COCO in the order of its images.

    Args:
        path: the file.
        faults: collects the faulty lines, which are left out of the rows.

    Raises:
        InputError: when the file is malformed, with the line or the place in the JSON.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "five.txt"
    >>> _ = path.write_text("".join(f"{n // 3}.jpg#{n % 3}\tA {n} .\n" for n in range(5)))
    >>> [(row.name[0], row.caption) for row in caption_rows(path, CaptionFaults())]
    [('0', 'A 0 .'), ('0', 'A 1 .'), ('0', 'A 2 .'), ('1', 'A 3 .'), ('1', 'A 4 .')]
    """
    path = Path(path)
    return _reader(path)(path, faults)
