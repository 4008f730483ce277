"""Counts a reader's examples: how many are kept, which are dropped or refused, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from kerasrnn.base.errors import InputError

PLACES = 5  # largest number of places that are listed for each reason
LISTED = 10  # largest number of faulty lines that an error lists


@dataclass
class Tally:
    """The counts that reports of pairs, images and captions share.

    Attributes:
        kept: examples that can be used.
        dropped: number of dropped examples, by reason.
        places: the first places of each reason, at most five: "file:line" or a path.

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
        """Count one dropped example."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        places = self.places.setdefault(reason, [])
        if len(places) < PLACES:
            places.append(place)

    def losses(self) -> str:
        """The dropped examples, as the end of a line; "" when there are none."""
        if not self.dropped:
            return ""
        reasons = (f"{n:,} {r} ({', '.join(self.places[r])})" for r, n in self.dropped.items())
        return f"; {sum(self.dropped.values()):,} dropped: {', '.join(reasons)}"


@dataclass
class Faults:
    """Faulty lines, which are refused together after all lines are read.

    Attributes:
        argument: the argument whose file has the first faulty line.
        count: number of faulty lines.
        listed: the first ten, each with place and reason.
        reasons: number of lines by reason, in the order in which the reasons first came.

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
        """Add a faulty line; `argument` names its file when there are several files."""
        if not self.count:
            self.argument = argument or self.argument
        self.count += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.listed) < LISTED:
            self.listed.append(f"{place} ({reason})")

    def refuse(self, expected: dict[str, str], next_step: str) -> None:
        """Refuse the lines, if there are any.

        Args:
            expected: for each reason, what a line must be instead.
            next_step: advice to the user.

        Raises:
            InputError: about all the lines.
        """
        if self.count:
            wanted = " and ".join(dict.fromkeys(expected[reason] for reason in self.reasons))
            raise InputError(self.argument, wanted, self, next_step)

    def __str__(self) -> str:
        more = self.count - len(self.listed)
        ending = f" and {more:,} more" if more else ""
        count = f"{self.count:,} faulty lines: " if self.count > 1 else ""
        return f"{count}{', '.join(self.listed)}{ending}"
