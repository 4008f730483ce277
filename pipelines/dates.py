"""Built-in sentence pairs: dates as people write them in eight languages, and the same in ISO 8601.

Babel provides formats and names (Unicode's CLDR); nothing is downloaded.
"""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasrnn.base.errors import InputError

# A hundred years: two digits are enough to identify a year.
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
LOCALES = ("de", "en_GB", "en_US", "es", "fr", "it", "nl", "pt", "sv")
NAMED = ("medium", "long", "full", "yMMMEd")  # formats with the month's name
NUMERIC = ("short", "yMd")
MONTH_FIRST = ("en_US",)  # its 03/04/2026 would contradict the others'


class DateFiles(NamedTuple):
    """The files of `write_dates`."""

    train_source: Path
    train_target: Path
    valid_source: Path
    valid_target: Path


def spellings() -> list[Callable[[datetime.date], str]]:
    """Functions that spell a date; no two dates of the hundred years share a text.

    >>> fifth = datetime.date(2026, 5, 5)
    >>> sorted({spell(fifth) for spell in spellings()})[:5]
    ['05-05-2026', '05.05.2026', '05.05.26', '05/05/2026', '05/05/26']
    """
    from babel import Locale
    from babel.dates import format_date

    def spelling(locale, pattern) -> Callable[[datetime.date], str]:
        return lambda date: unicodedata.normalize("NFC", format_date(date, pattern, locale))

    functions = {}
    for locale in map(Locale.parse, LOCALES):
        names = NAMED if str(locale) in MONTH_FIRST else NAMED + NUMERIC
        patterns = {**locale.date_formats, **locale.datetime_skeletons}
        for pattern in dict.fromkeys(patterns[name].pattern for name in names):
            functions[str(locale), pattern] = spelling(locale, pattern)
    return list(functions.values())


def _write(paths: tuple[Path, Path], days: np.ndarray, random: np.random.Generator) -> None:
    """Write each day in a random spelling to one file, and in ISO 8601 to the other."""
    choices = spellings()
    dates = [FIRST + datetime.timedelta(days=day) for day in days.tolist()]
    chosen = random.integers(len(choices), size=len(dates)).tolist()
    sources = [choices[choice](date) for choice, date in zip(chosen, dates, strict=True)]
    for path, lines in zip(paths, (sources, map(str, dates)), strict=True):
        path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def write_dates(
    folder: str | Path, seed: int = 0, train: int = 20_000, valid: int = 1_000
) -> DateFiles:
    """Write aligned files of dates from 1950 to 2049; no validation date is in training.

    The same seed gives the same dates and spellings; another version of Babel may word a few
    differently.

    Args:
        folder: where to write; created if missing.
        seed: decides the dates and their spellings.
        train, valid: number of lines for training and validation.

    Raises:
        InputError: when a number of lines is out of range.

    >>> import tempfile
    >>> files = write_dates(tempfile.mkdtemp(), train=5, valid=2)
    >>> len(files.train_source.read_text(encoding="utf-8").splitlines())
    5
    """
    count = (LAST - FIRST).days + 1
    if train < 1:
        raise InputError("train", "1 or more", train, "raise it")
    if not 1 <= valid < count:
        raise InputError("valid", f"1 to {count - 1:,}, the dates there are", valid, "change it")
    random = np.random.default_rng(seed)
    days = random.permutation(count)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = DateFiles(*(folder / name.replace("_", ".") for name in DateFiles._fields))
    _write(files[:2], random.choice(days[valid:], train), random)
    _write(files[2:], days[:valid], random)
    return files
