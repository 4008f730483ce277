"""Provides data that every Python installation has, for the demo and the tests."""

from __future__ import annotations

from pathlib import Path


def write_topics(path: str | Path) -> Path:
    """Write Python's help topics to a file: about 450,000 characters of English and code."""
    from pydoc_data.topics import topics

    path = Path(path)
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8")
    return path
