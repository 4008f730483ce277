"""Data that every Python carries, for the demo and the tests."""

from __future__ import annotations

from pathlib import Path


def write_topics(path: str | Path) -> Path:
    """Write Python's own help topics, about 450,000 characters of English and code, to a file."""
    from pydoc_data.topics import topics

    path = Path(path)
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8")
    return path
