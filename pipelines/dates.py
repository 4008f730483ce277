"""Built-in pairs: dates as people write them in eight languages -> ISO 8601.

Babel carries the formats and the names (Unicode's CLDR); nothing is downloaded.
"""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kerasrnn.base.errors import InputError

# A hundred years, so that two digits say which one is meant.
FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
LOCALES = ("de", "en_GB", "en_US", "es", "fr", "it", "nl", "pt", "sv")
NAMED = ("medium", "long", "full", "yMMMEd")  # with the month's name
NUMERIC = ("short", "yMd")
MONTH_FIRST = ("en_US",)  # its 03/04/2026 would contradict the others'


class DateFiles(NamedTuple):
    """Where `write_dates` wrote."""

    train_source: Path
    train_target: Path
    valid_source: Path
    valid_target: Path


def spellings() -> list[Callable[[datetime.date], str]]:
    """The ways to write a date; no text they write stands for two dates of the hundred years.

    >>> fifth = datetime.date(2026, 5, 5)
    >>> sorted({spell(fifth) for spell in spellings()})[:5]
    ['05-05-2026', '05.05.2026', '05.05.26', '05/05/2026', '05/05/26']
    """
    from babel import Locale
    from babel.dates import format_date

    def spelling(locale, pattern) -> Callable[[datetime.date], str]:
        return lambda date: unicodedata.normalize("NFC", format_date(date, pattern, locale))

    found = {}
    for locale in map(Locale.parse, LOCALES):
        names = NAMED if str(locale) in MONTH_FIRST else NAMED + NUMERIC
        patterns = {**locale.date_formats, **locale.datetime_skeletons}
        for pattern in dict.fromkeys(patterns[name].pattern for name in names):
            found[str(locale), pattern] = spelling(locale, pattern)
    return list(found.values())


def _write(paths: tuple[Path, Path], days: np.ndarray, random: np.random.Generator) -> None:
    """Each day in a spelling of its own choice, and in ISO 8601."""
    ways = spellings()
    dates = [FIRST + datetime.timedelta(days=day) for day in days.tolist()]
    chosen = random.integers(len(ways), size=len(dates)).tolist()
    sources = [ways[way](date) for way, date in zip(chosen, dates, strict=True)]
    for path, lines in zip(paths, (sources, map(str, dates)), strict=True):
        path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def write_dates(
    folder: str | Path, seed: int = 0, train: int = 20_000, valid: int = 1_000
) -> DateFiles:
    """Write aligned files of dates from 1950 to 2049; those for validation are not in training.

    The same seed chooses the same dates and spellings; another Babel may word a few otherwise.

    Args:
        folder: where; made if it is not there.
        seed: of the dates and of how each is written.
        train, valid: lines for training and for validation.

    Raises:
        InputError: when a number of lines cannot be.

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
