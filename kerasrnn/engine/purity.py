"""Whether a cell's step is a pure function, which the engine may run a second time.

The replay rebuilds each step backward. A step that draws a random number or assigns a variable
would draw and assign again: its gradient would be that of another step, without a word.
"""

import weakref

from keras import ops

from kerasrnn.compat.keras import AutocastScope
from kerasrnn.engine.layout import Layout
from kerasrnn.engine.problem import Problem, project
from kerasrnn.engine.trial import tried
from kerasrnn.engine.tried_step import BATCH, TriedStep

# cell -> {training: why its step is not pure, or None}
_KNOWN = weakref.WeakKeyDictionary()


def impurity(problem):
    """Why the step of a problem's cell is not a pure function, in words; None where it is.

    Found by tracing the step twice on zeros; nothing of it is run. Each cell is traced once.

    >>> from kerasrnn.cells import LSTM
    >>> cell = LSTM(2)
    >>> cell.build((1, 4))
    >>> print(impurity(Problem(cell, ops.zeros((1, 3, 4)), cell.initial_state(1))))
    None
    """
    known = _KNOWN.setdefault(problem.cell, {})
    if problem.training not in known:
        known[problem.training] = _found(problem)
    return known[problem.training]


def impurity_of(cell, training):
    """`impurity` of a cell that was run before, or that is built and needs no constants.

    None also where nothing can be known yet.
    """
    known = _KNOWN.get(cell, {})
    if training not in known and cell.built and not cell.constants_wanted():
        features = (cell.get_build_config() or {}).get("input_shape", ())[1:]
        if features and None not in features:
            x = ops.zeros((BATCH, 2, *features), dtype=cell.compute_dtype)
            return impurity(Problem(cell, x, cell.initial_state(BATCH), training=training))
    return known.get(training)


def _found(problem):
    first, second = (_step_trial(problem) for _ in range(2))
    if first.side_effects:
        return f"its step {' and '.join(first.side_effects)}"
    if first.constants != second.constants:
        # NumPy's or Python's own random numbers stand in the graph as constants.
        return "its step computes with other numbers each time it is traced"
    return None


def _step_trial(problem):
    """The trial of one step; what `project` draws is undone too."""

    def steps():
        z, _ = project(problem)
        with AutocastScope(problem.cell.compute_dtype):
            layout = Layout(z, problem.states, problem.constants)
            return TriedStep(problem.cell, layout).trial

    return tried(steps).result
