"""What became of a reader's examples: how many are kept, which were dropped or refused, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from kerasrnn.base.errors import InputError

PLACES = 5  # named of each reason, at most
LISTED = 10  # faulty lines named where they are refused, at most


@dataclass
class Tally:
    """What a report of pairs, images or captions begins with.

    Attributes:
        kept: examples that can be used.
        dropped: how many were dropped, by reason.
        places: where the first of them stand ("file:line", or a path), at most five a reason.

    >>> tally = Tally(kept=3)
    >>> for line in (17, 19):
    ...     tally.drop("empty", f"a.de:{line}")
    >>> tally.kept, tally.losses()
    (3, '; 2 dropped: 2 empty (a.de:17, a.de:19)')
    """

    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, place: str) -> None:
        """Count one example that was dropped."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        places = self.places.setdefault(reason, [])
        if len(places) < PLACES:
            places.append(place)

    def losses(self) -> str:
        """What was dropped, as the end of a line; "" where nothing was."""
        if not self.dropped:
            return ""
        reasons = (f"{n:,} {r} ({', '.join(self.places[r])})" for r, n in self.dropped.items())
        return f"; {sum(self.dropped.values()):,} dropped: {', '.join(reasons)}"


@dataclass
class Faults:
    """Faulty lines, which are refused together once all are known.

    Attributes:
        argument: the file they stand in.
        count: how many there are.
        listed: the first ten, each with place and reason.
        reasons: how many of each, in the order in which they were met.

    >>> faults = Faults("source")
    >>> for line in range(1, 13):
    ...     faults.add("empty", f"a:{line}")
    >>> print(faults)
    12 faulty lines: a:1 (empty), a:2 (empty), ..., a:10 (empty) and 2 more
    """

    argument: str
    count: int = 0
    listed: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, place: str, argument: str | None = None) -> None:
        """Note a faulty line; `argument` where it is another file's than the first fault's."""
        if not self.count:
            self.argument = argument or self.argument
        self.count += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.listed) < LISTED:
            self.listed.append(f"{place} ({reason})")

    def refuse(self, expected: dict[str, str], next_step: str) -> None:
        """Refuse the lines, where there are any.

        Args:
            expected: what a line must be, for each reason.
            next_step: what to do.

        Raises:
            InputError: about all of them.
        """
        if self.count:
            wanted = " and ".join(dict.fromkeys(expected[reason] for reason in self.reasons))
            raise InputError(self.argument, wanted, self, next_step)

    def __str__(self) -> str:
        more = self.count - len(self.listed)
        rest = f" and {more:,} more" if more else ""
        count = f"{self.count:,} faulty lines: " if self.count > 1 else ""
        return f"{count}{', '.join(self.listed)}{rest}"
