"""Built-in dates: every text means one date, and validation is of dates never seen."""

import datetime
import unicodedata

import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.pipelines.dates import FIRST, LAST, DateFiles, spellings, write_dates
from kerasrnn.pipelines.pairs import read_pairs
from kerasrnn.text.tokenizers import CharTokenizer

DAY = datetime.timedelta(days=1)


def read(files: DateFiles) -> tuple[list, list]:
    return list(read_pairs(*files[:2])), list(read_pairs(*files[2:]))


def test_dates_are_written_as_people_do_in_eight_languages():
    written = [spell(datetime.date(2026, 11, 21)) for spell in spellings()]
    for text in (
        "Samstag, 21. November 2026",
        "Saturday, November 21, 2026",
        "21 de noviembre de 2026",
        "sam. 21 nov. 2026",
        "sabato 21 novembre 2026",
        "zaterdag 21 november 2026",
        "21 de nov. de 2026",
        "lördag 21 november 2026",
        "21/11/2026",
        "21.11.26",
        "21-11-2026",
    ):
        assert text in written
    assert all("11/21" not in text for text in written)


def test_no_text_stands_for_two_dates():
    ways, seen = spellings(), {}
    for year in (1950, 1999, 2000, 2001, 2010, 2011, 2012, 2031, 2049):
        date = datetime.date(year, 1, 1)
        while date.year == year:
            for spell in ways:
                assert seen.setdefault(spell(date), date) == date, spell(date)
            date += DAY
    assert len(seen) > 100_000
    assert LAST == FIRST.replace(year=FIRST.year + 100) - DAY  # two digits say which year


def test_the_files_are_aligned_and_validate_on_dates_never_seen(tmp_path):
    files = write_dates(tmp_path / "made" / "here", train=3000, valid=400)
    assert {path.name for path in files} == {
        f"{part}.{side}" for part in ("train", "valid") for side in ("source", "target")
    }
    train, valid = read(files)
    assert (len(train), len(valid)) == (3000, 400)
    dates = [{datetime.date.fromisoformat(target) for _, target in part} for part in (train, valid)]
    assert len(dates[1]) == 400 and not dates[0] & dates[1]
    assert {source for source, _ in train}.isdisjoint(source for source, _ in valid)
    assert min(dates[0]) >= FIRST and max(dates[0]) <= LAST
    ways = spellings()
    for source, target in train[:200] + valid[:50]:
        assert source in [spell(datetime.date.fromisoformat(target)) for spell in ways]


def test_the_seed_makes_the_files(tmp_path):
    found = [read(write_dates(tmp_path, seed, train=200, valid=50)) for seed in (1, 1, 2)]
    assert found[0] == found[1] and found[0][0] != found[2][0] and found[0][1] != found[2][1]


def test_the_text_is_nfc_and_has_few_characters(tmp_path):
    train, valid = read(write_dates(tmp_path))
    assert (len(train), len(valid)) == (20_000, 1_000)
    text = "".join(source for source, _ in train)
    assert unicodedata.is_normalized("NFC", text)
    known = CharTokenizer.from_texts([text])
    assert 40 < known.size < 80
    assert {c for source, _ in valid for c in source} <= set(known.characters)


def test_numbers_that_cannot_be_are_refused(tmp_path):
    for options, message in (
        ({"train": 0}, "train: expected 1 or more, got 0; raise it"),
        ({"valid": 0}, "valid: expected 1 to 36,524, the dates there are, got 0; change it"),
        (
            {"valid": 36_525},
            "valid: expected 1 to 36,524, the dates there are, got 36525; change it",
        ),
    ):
        with pytest.raises(InputError) as error:
            write_dates(tmp_path / "none", **options)
        assert str(error.value) == message and not (tmp_path / "none").exists()
