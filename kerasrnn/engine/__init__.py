"""A step over time: which runner does it, and the runners. No cell has a gradient by hand."""

from kerasrnn.engine.problem import Problem
from kerasrnn.engine.recurrence import Plan, exporting, observing, plan, run

__all__ = ["Plan", "Problem", "exporting", "observing", "plan", "run"]
