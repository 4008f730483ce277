"""The recurrence engine: `plan` chooses the runner and gives the reason, `run` computes.

B batch, T time, D input, H units. Every runner has one signature:
`runner(problem) -> (outputs [B, T, ...] or the last output [B, ...], final states)`.
"""

import contextlib
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
from keras import ops, tree

from kerasrnn.compat.keras import AutocastScope
from kerasrnn.engine.problem import Problem, project, time_major
from kerasrnn.engine.purity import impurity, impurity_of
from kerasrnn.engine.scan import scan
from kerasrnn.engine.steps import Steps

__all__ = ["RUNNERS", "Plan", "Problem", "exporting", "lower_for_export", "plan", "run"]


@dataclass(frozen=True)
class Plan:
    """The runner that does the work, and the reason.

    >>> print(Plan("loop", "the backend is numpy"))
    loop: the backend is numpy
    """

    runner: str
    reason: str

    def __str__(self):
        return f"{self.runner}: {self.reason}"


# While an export is traced, the function that expresses a whole recurrence, see `exporting`;
# None at other times.
_LOWERING: contextvars.ContextVar[Callable | None] = contextvars.ContextVar(
    "kerasrnn_lowering", default=None
)


@contextlib.contextmanager
def exporting(lower=None):
    """Within this context every recurrence is traced by the portable `symbolic` runner.

    Without `lower`, or where it returns None, a plain loop is traced: no custom gradient, no XLA,
    no cuDNN. Otherwise `lower(*problems)` expresses the whole recurrences and returns their
    results, in the form of `lower_for_export`.

    >>> from kerasrnn.cells import LSTM
    >>> with exporting():
    ...     print(plan(LSTM(3)))
    symbolic: an export is being traced
    """
    token = _LOWERING.set(lower or (lambda *problems: None))
    try:
        yield
    finally:
        _LOWERING.reset(token)


# The function that computes a problem in place of `run`, see `observing`.
_OBSERVER: contextvars.ContextVar[Callable | None] = contextvars.ContextVar(
    "kerasrnn_observer", default=None
)


@contextlib.contextmanager
def observing(observer):
    """Within this context `observer(problem, compute)` computes every recurrence.

    It returns (output, states). `compute(problem) -> (output, states)` is the usual computation,
    which the observer may call.
    """
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def plan(cell, masked=False, training=False, device=None, runner="auto"):
    """The `Plan` for a cell: which runner computes it, and why.

    Args:
        cell: a `kerasrnn.cells.Cell`.
        masked: whether there is a mask.
        training: whether a gradient is expected.
        device: "CPU" or "GPU"; by default "GPU" where this process sees one.
        runner: "auto", or the name of a runner to force.

    A cell that needs constants has to run once before `plan` knows whether its step is pure.

    Raises:
        ValueError: if `runner` is unknown, or cannot run this cell here.
    """
    if runner != "auto" and runner not in RUNNERS:
        raise ValueError(
            f"runner: expected 'auto' or one of {sorted(RUNNERS)}, received {runner!r}; "
            "'auto' picks the fastest that can do the work."
        )
    if _LOWERING.get() is not None:
        return Plan("symbolic", "an export is being traced")
    device = device or _device()
    if runner == "auto":
        return _choose(cell, masked, training, device)
    refusal = _refusal(runner, cell, masked, training, device)
    if refusal:
        raise ValueError(f"runner={runner!r}: {refusal}; use runner='auto'.")
    return Plan(runner, "asked for")


def _choose(cell, masked, training, device):
    """The plan of `runner="auto"`: cuDNN where it can, else replay, else the loop."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        return Plan("loop", f"the backend is {backend}")
    impurity_reason = impurity_of(cell, training)
    if impurity_reason:
        return Plan("loop", f"{impurity_reason}, so it cannot be run again for the gradient")
    refusal = _refusal("cudnn", cell, masked, training, device)
    if refusal is None:
        return Plan("cudnn", "a GPU, no mask, and a cell that is exactly cuDNN's")
    how = "recorded under XLA" if training else "forward only, no gradient expected"
    return Plan("replay", f"{how}; not cudnn: {refusal}")


def _refusal(runner, cell, masked, training, device):
    """The reason why `runner` cannot run this cell here; None where it can."""
    backend = keras.backend.backend()
    if runner != "loop" and backend != "tensorflow":
        return f"needs the TensorFlow backend, this is {backend}"
    if runner == "replay":
        impurity_reason = impurity_of(cell, training)
        return impurity_reason and f"{impurity_reason}, so it cannot be run again for the gradient"
    if runner != "cudnn":
        return None
    if device != "GPU":
        return "no GPU"
    if masked:
        return "cuDNN takes right padding only and a mask may be of any kind"
    if cell.compute_dtype == "bfloat16":
        return "cuDNN's kernels have no bfloat16"
    return None if cell.cudnn else "the cell is not exactly cuDNN's"


def _device():
    """The kind of device that computes: "GPU" where TensorFlow sees one, else "CPU"."""
    if keras.backend.backend() != "tensorflow":
        return "CPU"
    import tensorflow as tf

    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def lower_for_export(problems):
    """The results of recurrences over one sequence, as the current export expresses them.

    Args:
        problems: one problem, or the two directions of one sequence; read only while exporting.

    Returns:
        A list of (output, states), outputs in the order of time. None where no export is being
        traced, or where the export does not express them.
    """
    lower = _LOWERING.get()
    return None if lower is None else lower(*problems)


def run(problem, runner="auto"):
    """Compute a recurrence with the runner that `plan` chooses.

    Args:
        problem: a `Problem`, already checked.
        runner: "auto", or the name of a runner to force.

    Returns:
        The outputs [B, T, ...] in the order of reading, or the last output [B, ...] where
        `problem.sequences` is False; and the final states in the structure of `problem.states`.

    Raises:
        ValueError: if the runner cannot run this cell here, or the cell's step is wrong.
    """
    results = lower_for_export([problem])
    if results is not None:
        [(output, states)] = results
        # An export gives outputs in the order of time; a caller expects the order of reading.
        flips = problem.backwards and problem.sequences
        return (ops.flip(output, axis=1) if flips else output), states
    problem = _forwards(problem)
    observer = _OBSERVER.get()
    if observer is not None:
        return observer(problem, lambda problem: _run(problem, runner))
    return _run(problem, runner)


def _forwards(problem):
    """The same recurrence with x and mask reversed in time, so that it reads forwards."""
    if not problem.backwards:
        return problem
    mask = None if problem.mask is None else ops.flip(problem.mask, axis=1)
    return replace(problem, x=ops.flip(problem.x, axis=1), mask=mask, backwards=False)


def _run(problem, runner):
    """Compute a problem that reads forwards, with the runner of its plan."""
    masked = problem.mask is not None
    if keras.backend.backend() == "tensorflow" and _LOWERING.get() is None:
        # `plan` has no constants, which some steps need. It finds the answer of this call.
        impurity(problem)
    chosen = plan(problem.cell, masked, problem.training, runner=runner)
    compute = RUNNERS[chosen.runner]
    if problem.x.shape[1] is None and chosen.runner in ("loop", "replay"):
        output, states = _at_least_one_step(problem, compute)
    else:
        output, states = compute(problem)
    if problem.x.shape[1] == 0:  # no step ran, and an output that is a state is the initial state
        output = tree.map_structure(ops.zeros_like, output)
    if masked and not problem.zero_start:
        output = tree.map_structure(lambda o: _zero_before_start(o, problem), output)
    if masked and problem.zero_padding and problem.sequences:
        output = tree.map_structure(lambda o: zero_masked(o, problem.mask), output)
    return output, states


def zero_masked(output, mask):
    """The output [B, T, ...] or [B, ...], with 0 where the mask [B, T] or [B] is False."""
    lead = len(mask.shape)
    mask = ops.reshape(mask, (*ops.shape(mask), *(1,) * (len(output.shape) - lead)))
    # A plain 0: tf2onnx writes zeros_like as x · 0, which is NaN where x is infinite.
    return ops.where(mask, output, ops.cast(0, output.dtype))


def _at_least_one_step(problem, compute):
    """`compute(problem)` for a T that is unknown and may be 0.

    XLA and ONNX Runtime cannot loop over 0 steps. Where T is 0, one step of zeros is computed
    and its results are dropped.
    """
    x, T = problem.x, ops.shape(problem.x)[1]
    padding = (ops.shape(x)[0], ops.cast(ops.equal(T, 0), "int32"))  # [B, 1] or [B, 0]
    x = ops.concatenate([x, ops.zeros((*padding, *x.shape[2:]), dtype=x.dtype)], axis=1)
    mask = problem.mask
    mask = None if mask is None else ops.concatenate([mask, ops.zeros(padding, "bool")], axis=1)
    output, states = compute(replace(problem, x=x, mask=mask))

    def unless_empty(new, old):
        return ops.where(ops.greater(T, 0), new, ops.cast(old, new.dtype))

    states = tree.map_structure(unless_empty, states, problem.states)
    if problem.sequences:
        return tree.map_structure(lambda o: o[:, :T], output), states
    return tree.map_structure(lambda o: unless_empty(o, 0), output), states


def _zero_before_start(output, problem):
    """The output with zeros before the first real step of each row, as in Keras."""
    if not problem.sequences:
        return zero_masked(output, ops.any(problem.mask, axis=1))
    return zero_masked(output, ops.cumsum(ops.cast(problem.mask, "int32"), axis=1) > 0)


def loop(problem):
    """Compute a problem by a plain loop over time. Any Keras backend can differentiate it."""
    z, mask = project(problem)
    cell = problem.cell
    with AutocastScope(cell.compute_dtype):
        steps = Steps(cell, z, problem.states, problem.constants, mask, problem.sequences)
        weights, emitted = steps.tried.prepare(), steps.emitted()

        def body(scanned, states):
            linear = steps.tried.plain_linear(weights)
            new_states, own_outputs = steps(scanned, steps.fixed, states, linear)
            return new_states, [new_states[i] for i in emitted] + own_outputs

        specs = [steps.state_specs()[i] for i in emitted] + steps.own_specs()
        finals, ys = scan(body, steps.scanned, steps.states, specs)
    stacks = dict(zip(emitted, ys, strict=False))  # behind them stand the own outputs
    output, states = steps.result(finals, stacks, ys[len(emitted) :])
    if problem.sequences:
        output = tree.map_structure(time_major, output)
    return output, states


def symbolic(problem):
    """Compute a problem by the plain loop. An export traces it where it lowers nothing itself."""
    return loop(problem)


def replay(problem):
    """Compute a problem by record and replay, see `kerasrnn/engine/replay.py`."""
    from kerasrnn.engine.replay import replay

    return replay(problem)


def cudnn(problem):
    """Compute a problem with cuDNN's kernels, through Keras's TensorFlow backend."""
    from kerasrnn.compat.rnn import KERNELS

    cell = problem.cell
    with AutocastScope(cell.compute_dtype):
        weights = [
            ops.convert_to_tensor(w) for w in (cell.kernel, cell.recurrent_kernel, cell.bias)
        ]
    last, outputs, states = KERNELS[cell.cudnn](
        problem.x,
        *tree.flatten(problem.states),
        None,
        *weights,
        cell.activation,
        cell.recurrent_activation,
        return_sequences=problem.sequences,
    )
    states = tree.pack_sequence_as(problem.states, tree.flatten(states))
    return (outputs if problem.sequences else last), states


RUNNERS = {"loop": loop, "replay": replay, "cudnn": cudnn, "symbolic": symbolic}
