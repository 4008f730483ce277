"""What became of a reader's examples: how many are kept, which were dropped, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

PLACES = 5  # named of each reason, at most


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
