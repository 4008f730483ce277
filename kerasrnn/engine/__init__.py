"""A step over time: which runner does it, and the runners. No cell has a gradient by hand."""

from kerasrnn.engine.recurrence import Plan, exporting, observing, plan, run
from kerasrnn.engine.steps import Problem

__all__ = ["Plan", "Problem", "exporting", "observing", "plan", "run"]
