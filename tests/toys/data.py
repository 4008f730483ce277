"""Data for the toys: a function of a folder, which gives the option and the file that it wrote."""

import itertools
import math


def words(folder):
    """Lines whose label is whether they begin with a vowel."""
    made = ["".join(w) for w in itertools.product("aeiobcdf", "aeib", "rst")]
    path = folder / "lines.tsv"
    path.write_text("".join(f"{w}\t{'vowel' if w[0] in 'aeio' else 'other'}\n" for w in made))
    (folder / "given").write_text("art\ncat\n")
    return ("--lines", path)


def table(folder):
    """A number that is made of two others and of the one before."""
    path, value, lines = folder / "table.csv", 0.0, ["left,right,value"]
    for t in range(400):
        left, right = math.sin(t), math.cos(0.7 * t)
        value = 0.5 * value + left - right
        lines.append(f"{left:.4f},{right:.4f},{value:.4f}")
    path.write_text("\n".join(lines))
    (folder / "given").write_text("left,right\n0.1 0.2 0.3,0.3 0.2 0.1\n1,0.5\n")
    return ("--table", path)


def numbers(folder):
    """A wave."""
    path = folder / "numbers.txt"
    path.write_text("\n".join(f"{math.sin(t / 3):.4f}" for t in range(300)))
    return ("--numbers", path)


DATA = {"labeller": words, "sums": table, "waves": numbers}
