"""The loop over time: which runner runs a step, and the runners. No gradient by hand."""

from kerasrnn.engine.problem import Problem
from kerasrnn.engine.recurrence import Plan, exporting, observing, plan, run

__all__ = ["Plan", "Problem", "exporting", "observing", "plan", "run"]
