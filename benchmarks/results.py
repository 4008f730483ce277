"""RESULTS.md, a section for each benchmark; a benchmark rewrites its own and no other."""

from __future__ import annotations

import platform
import re
import subprocess
from datetime import date
from pathlib import Path

FILE = Path(__file__).parent / "RESULTS.md"
TITLE = "# Results\n\nEach section was written by the command that stands in it.\n"


def machine() -> str:
    """Processor, cores and commit of a measurement."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = len(re.findall(r"^processor", Path("/proc/cpuinfo").read_text(), re.M))
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=FILE.parent
    ).stdout.strip()
    name = model.group(1) if model else platform.processor()
    return f"{date.today()}, {name}, {cores} cores, commit {commit}"


def table(header: list[str], rows: list[list]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write(title: str, command: str, body: str) -> None:
    """Replace or add the section `title`."""
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else TITLE
    parts = re.split(r"(?m)^(?=## )", text)
    section = f"## {title}\n\n`{command}` — {machine()}\n\n{body.strip()}\n\n"
    others = [part for part in parts[1:] if not part.startswith(f"## {title}\n")]
    FILE.write_text(parts[0].rstrip() + "\n\n" + "".join([*others, section]), encoding="utf-8")
