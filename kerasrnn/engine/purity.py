"""Tells whether a cell's step is a pure function, which the engine may run a second time.

The replay runs each step again in the backward loop. A step that draws a random number or assigns
a variable would do so again, and its gradient would be silently that of another step.
"""

import weakref

from keras import ops

from kerasrnn.compat.keras import AutocastScope
from kerasrnn.engine.layout import Layout
from kerasrnn.engine.problem import Problem, project
from kerasrnn.engine.trial import run_trial
from kerasrnn.engine.tried_step import BATCH, TriedStep

# cell -> {training: why its step is not pure, or None}
_VERDICTS = weakref.WeakKeyDictionary()


def impurity(problem):
    """The reason why the step of a problem's cell is not a pure function; None where it is pure.

    The step is traced twice on zeros and never run. The answer is kept for each cell.

    >>> from kerasrnn.cells import LSTM
    >>> cell = LSTM(2)
    >>> cell.build((1, 4))
    >>> print(impurity(Problem(cell, ops.zeros((1, 3, 4)), cell.initial_state(1))))
    None
    """
    verdicts = _VERDICTS.setdefault(problem.cell, {})
    if problem.training not in verdicts:
        verdicts[problem.training] = _examine(problem)
    return verdicts[problem.training]


def impurity_of(cell, training):
    """`impurity` of a cell that ran before, or that is built and needs no constants.

    Also None where the cell cannot be examined yet.
    """
    verdicts = _VERDICTS.get(cell, {})
    if training not in verdicts and cell.built and not cell.constant_names():
        features = (cell.get_build_config() or {}).get("input_shape", ())[1:]
        if features and None not in features:
            x = ops.zeros((BATCH, 2, *features), dtype=cell.compute_dtype)
            return impurity(Problem(cell, x, cell.initial_state(BATCH), training=training))
    return verdicts.get(training)


def _examine(problem):
    """Trace the step twice and compare: the reason why it is not pure, or None."""
    first, second = (_step_trial(problem) for _ in range(2))
    if first.side_effects:
        return f"its step {' and '.join(first.side_effects)}"
    if first.constants != second.constants:
        # NumPy's or Python's own random numbers stand in the graph as constants.
        return "its step computes with other numbers each time it is traced"
    return None


def _step_trial(problem):
    """The `Trial` of one step."""

    def steps():
        z, _ = project(problem)
        with AutocastScope(problem.cell.compute_dtype):
            layout = Layout(z, problem.states, problem.constants)
            return TriedStep(problem.cell, layout).trial

    # The outer trial undoes what `project` draws, so that examining a cell moves no seed.
    return run_trial(steps).result
