"""Measures how gradients flow through time, and a regularizer that keeps their length level.

B batch, T time, S the size of a cell's whole state, which is h(t) below.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from keras import ops, tree

from kerasrnn.cells import Cell
from kerasrnn.cells.base import matmul
from kerasrnn.compat.keras import AutocastScope, layers_of
from kerasrnn.engine.problem import project, time_major
from kerasrnn.engine.recurrence import observing
from kerasrnn.layers import Recurrent


class ProbedCell(Cell):
    """A cell with states h(t) + δ(t), where δ = 0: ∂L/∂δ(t) is ∂L/∂h(t) over all paths.

    Its output is (output, new state) of the cell inside.
    """

    def __init__(self, cell, probes):
        super().__init__(dtype=cell.dtype_policy)
        self.cell, self.probes = cell, probes
        self.state_size = cell.state_size
        self.output_size = (cell.output_size, cell.state_size)

    def project(self, x, training=None):
        return self.cell.project(x, training=training), tuple(self.probes)

    def step(self, z, state, linear, *constants):
        z, probes = z
        output, new_state = self.cell.step(z, state, linear, *constants)
        flat = tree.flatten(new_state)
        probed = [s + δ for s, δ in zip(flat, probes, strict=True)]
        # An output that is a state goes on as the probed state, so that its path counts too.
        outputs = [
            next((p for p, s in zip(probed, flat, strict=True) if s is o), o)
            for o in tree.flatten(output)
        ]
        new_state = tree.pack_sequence_as(state, probed)
        return (tree.pack_sequence_as(output, outputs), new_state), new_state


class Watch:
    """An observer of the first run of a layer, see `kerasrnn.engine.recurrence.observing`.

    Attributes:
        problem: the layer's `Problem`; None before it ran.
        states: its states after each step, a list of [T, B, size].
        probes: the zeros δ added to the states, watched by `tape`, of the same shapes.
    """

    def __init__(self, layer, tape):
        self.layer, self.tape, self.problem = layer, tape, None

    def __call__(self, problem, compute):
        cell = problem.cell
        if cell is not self.layer.cell or self.problem is not None:
            return compute(problem)
        batch, T = ops.shape(problem.x)[:2]
        sizes = tree.flatten(cell.state_size)
        self.problem = problem
        self.probes = [tf.zeros((T, batch, size), cell.compute_dtype) for size in sizes]
        self.tape.watch(self.probes)
        probed = dataclasses.replace(problem, cell=ProbedCell(cell, self.probes), sequences=True)
        (output, states), finals = compute(probed)
        self.states = [time_major(s) for s in tree.flatten(states)]
        if not problem.sequences:
            output = tree.map_structure(lambda o: o[:, -1], output)
        return output, finals

    def before(self):
        """The states before each step, a list of [T, B, size]."""
        initial = [s[None] for s in tree.flatten(self.problem.states)]
        pairs = zip(initial, self.states, strict=True)
        return [tf.concat([s_0, s[:-1]], axis=0) for s_0, s in pairs]

    def folded_step(self):
        """A function of states [T B, size] to new states: all T steps at once, as one batch."""
        problem, cell = self.problem, self.problem.cell
        z, _ = project(problem)
        T = ops.shape(self.states[0])[0]

        def fold(leaf):
            if leaf is None:
                return None
            leaf = tf.repeat(leaf, T, axis=0) if leaf.shape[0] == 1 else leaf
            return tf.reshape(leaf, (-1, *leaf.shape[2:]))

        z = tree.map_structure(fold, z)
        constants = tree.map_structure(
            lambda c: None if c is None else tf.repeat(c[None], T, axis=0), problem.constants
        )
        constants = tree.map_structure(fold, constants)

        def step(states):
            with AutocastScope(cell.compute_dtype):
                state = tree.pack_sequence_as(problem.states, states)
                return tree.flatten(cell.step(z, state, matmul, *constants)[1])

        return step


@dataclasses.dataclass(frozen=True)
class GradientFlow:
    """How much of the gradient of a loss reaches each time step of a layer.

    Attributes:
        layer: the name of the layer.
        gradient_norm: ‖∂L/∂h(t)‖ over the batch, for t = 0 … T - 1.
        jacobian_norm: ‖∂h(t)/∂h(t-1)‖₂, mean over the examples, for t = 0 … T - 1.
        reach: ‖∂h(T)/∂h(T-k)‖₂, mean over the examples, for k = 1 … T.
        nonfinite: where NaN or ∞ began, for example ("inputs at step 3",); empty where all is
            finite.
    """

    layer: str
    gradient_norm: np.ndarray
    jacobian_norm: np.ndarray
    reach: np.ndarray
    nonfinite: tuple

    def plot(self, path):
        """Draw the three curves into the image file `path`, on a logarithmic scale."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 3.5), layout="constrained")
        curves = {
            "‖∂L/∂h(t)‖ over t": self.gradient_norm,
            "‖∂h(t)/∂h(t-1)‖ over t": self.jacobian_norm,
            "‖∂h(T)/∂h(T-k)‖ over k": self.reach,
        }
        for i, (title, values) in enumerate(curves.items(), 1):
            axes = figure.add_subplot(1, 3, i, title=title)
            # A logarithmic axis has no place for 0.
            axes.semilogy(np.where(values > 0, values, np.nan))
        figure.suptitle(self.layer)
        figure.savefig(path)


def gradient_flow(model, batch, layer=None, examples=4):
    """Measure how the gradient of a loss vanishes or explodes through time.

    Args:
        model: a compiled Keras model with at least one `Recurrent`.
        batch: (inputs, targets), as `fit` takes them.
        layer: the `Recurrent` to measure; by default the model's first.
        examples: the number of rows of the batch for which the Jacobians are computed.

    Returns:
        A `GradientFlow`, measured with `training=False`, so without dropout.

    Raises:
        ValueError: if the model is not compiled, or has no such layer.
    """
    layer = _recurrent_layer(model, layer)
    x, y = batch
    with tf.GradientTape() as tape:
        watch = _watched(model, x, y, layer, tape)
    gradients = tape.gradient(watch.loss, watch.probes)
    norms = np.sqrt(sum(np.square(_numpy(g)).sum(axis=(1, 2)) for g in gradients))
    J = _jacobians(watch, examples)
    # ∂h(T)/∂h(T-k) is the product of the last k Jacobians, the latest on the left.
    reach, product = [], np.broadcast_to(np.eye(J.shape[-1]), J.shape[1:])
    for J_t in J[::-1]:
        product = product @ J_t
        reach.append(_spectral_norm(product))
    return GradientFlow(
        layer.name,
        norms,
        np.array([_spectral_norm(J_t) for J_t in J]),
        np.array(reach),
        _nonfinite(watch, gradients),
    )


def _recurrent_layer(model, layer):
    """The `Recurrent` asked for, or the model's first (ValueError as in `gradient_flow`)."""
    if not model.compiled:
        raise ValueError(
            f"model: expected a compiled model, received {model.name!r} without a loss; call "
            "model.compile(optimizer, loss) first."
        )
    layers = [candidate for candidate in layers_of(model) if isinstance(candidate, Recurrent)]
    if not layers or (layer is not None and layer not in layers):
        raise ValueError(
            f"layer: expected one of the model's Recurrent layers {[r.name for r in layers]}, "
            f"received {layer!r}; kerasrnn.adopt(model) makes stock layers into Recurrent ones."
        )
    return layers[0] if layer is None else layer


def _watched(model, x, y, layer, tape, training=False):
    """Run the model under `tape`: a `Watch` of the layer, with the model's loss as `watch.loss`."""
    watch = Watch(layer, tape)
    with observing(watch):
        outputs = model(x, training=training)
    watch.loss = model.compute_loss(x=x, y=y, y_pred=outputs, training=training)
    return watch


def _numpy(tensor):
    """The tensor as a NumPy array, float64."""
    return np.asarray(tf.cast(tensor, tf.float64))


def _jacobians(watch, examples):
    """∂h(t)/∂h(t-1) [T, examples, S, S]; the identity where a step is masked."""
    rows = slice(0, examples)
    problem = watch.problem
    # The mask is applied to the Jacobians at the end.
    small = dataclasses.replace(
        problem,
        x=problem.x[rows],
        states=tree.map_structure(lambda s: s[rows], problem.states),
        constants=tree.map_structure(lambda c: None if c is None else c[rows], problem.constants),
        mask=None,
    )
    subset = Watch(watch.layer, None)
    subset.problem, subset.states = small, [s[:, rows] for s in watch.states]
    step, sizes = subset.folded_step(), [s.shape[-1] for s in subset.states]
    before = tf.concat([tf.reshape(s, (-1, s.shape[-1])) for s in subset.before()], axis=-1)
    with tf.GradientTape() as tape:
        tape.watch(before)
        new = tf.concat(step(tf.split(before, sizes, axis=-1)), axis=-1)
    J = _numpy(tape.batch_jacobian(new, before))
    J = J.reshape(subset.states[0].shape[0], -1, sum(sizes), sum(sizes))
    if problem.mask is None:
        return J
    mask = np.asarray(time_major(problem.mask))[:, rows, None, None]
    return np.where(mask, J, np.eye(sum(sizes)))


def _spectral_norm(J):
    """Mean over the examples of the largest singular value of J [..., S, S]; NaN if not finite."""
    if not np.isfinite(J).all():
        return np.nan
    return np.linalg.norm(J, ord=2, axis=(-2, -1)).mean()


def _nonfinite(watch, gradients):
    """Where NaN or ∞ began, in words: in time for inputs and states, backwards for gradients."""
    places = []
    kinds = {"inputs": [time_major(watch.problem.x)], "states": watch.states}
    for kind, tensors in kinds.items():
        steps = _nonfinite_steps(tensors)
        if len(steps):
            places.append(f"{kind} at step {steps[0]}")
    steps = _nonfinite_steps(gradients)
    if len(steps):
        places.append(f"gradients at step {steps[-1]}, and back from there")
    return tuple(places)


def _nonfinite_steps(tensors):
    """The indices of the steps at which one of the tensors [T, B, …] is not finite."""
    flat = [_numpy(t).reshape(t.shape[0], -1) for t in tensors]
    return np.flatnonzero(~np.isfinite(np.concatenate(flat, axis=1)).all(axis=1))


def pascanu_regularizer(model, x, y, layer=None):
    """Ω = Σ_t (‖∂L/∂h(t+1) ∂h(t+1)/∂h(t)‖ / ‖∂L/∂h(t+1)‖ - 1)², mean over the batch.

    Pascanu, Mikolov and Bengio 2013, equations 9 and 10. Ω is small where the gradient keeps its
    length from step to step. As in the paper, ∂L/∂h and h are constants in Ω, so its gradient
    reaches the weights through ∂h(t+1)/∂h(t) only. Steps that no gradient reaches do not count.

    To use it, add `weight * pascanu_regularizer(self, x, y)` to the loss in your `train_step`.

    Args:
        model: a compiled Keras model.
        x: inputs.
        y: targets.
        layer: the `Recurrent`; by default the model's first.

    Returns:
        A scalar tensor that a GradientTape can differentiate.

    Raises:
        ValueError: as in `gradient_flow`.
    """
    layer = _recurrent_layer(model, layer)
    with tf.GradientTape() as tape:
        watch = _watched(model, x, y, layer, tape)
    d = [tf.stop_gradient(g) for g in tape.gradient(watch.loss, watch.probes)]
    d = [tf.reshape(g, (-1, g.shape[-1])) for g in d]
    before = [tf.stop_gradient(tf.reshape(s, (-1, s.shape[-1]))) for s in watch.before()]
    # The gradient of Σ new states · d gives d ∂h(t+1)/∂h(t) of all steps at once.
    step = watch.folded_step()
    with tf.GradientTape() as tape:
        tape.watch(before)
        target = sum(tf.reduce_sum(s * g) for s, g in zip(step(before), d, strict=True))
    return _omega(watch, d, tape.gradient(target, before))


def _omega(watch, d, d_before):
    """Ω from d = ∂L/∂h(t+1) and d_before = d ∂h(t+1)/∂h(t), each a list of [T B, size]."""
    above = tf.sqrt(sum(tf.reduce_sum(tf.square(g), -1) for g in d))
    # The gradient of √ is infinite at 0, hence the small number.
    below = tf.sqrt(sum(tf.reduce_sum(tf.square(g), -1) for g in d_before) + 1e-30)
    T, B = ops.shape(watch.states[0])[:2]
    counts = tf.cast(tf.reshape(above, (T, B)) > 0, above.dtype)
    if watch.problem.mask is not None:
        counts = counts * tf.cast(time_major(watch.problem.mask), counts.dtype)
    ratio = tf.reshape(below / tf.where(above > 0, above, 1.0), (T, B))
    # Step 0 starts from the initial state, which no earlier step made, so it is left out.
    terms = (counts * tf.square(ratio - 1))[1:]
    return tf.reduce_sum(terms) / tf.cast(B, terms.dtype)


def eigenvalues(layer):
    """Eigenvalues of the recurrent matrix: [H] for a simple cell, [blocks, H] for a gated one.

    With the largest modulus above 1, gradients can explode. With all well below 1, they vanish.

    Raises:
        ValueError: when the cell has no square recurrent_kernel, nor one of square blocks.

    >>> from kerasrnn.cells import SimpleRNN
    >>> layer = Recurrent(SimpleRNN(2, recurrent_initializer="identity"))
    >>> layer.build((None, None, 3))
    >>> print(eigenvalues(layer))
    [1. 1.]
    """
    U = ops.convert_to_numpy(layer.cell.recurrent_kernel)
    H = U.shape[0]
    if U.shape[1] % H:
        raise ValueError(
            f"layer: expected a square recurrent_kernel, or square blocks side by side, received "
            f"{U.shape}; this cell has no recurrent matrix of its state."
        )
    values = np.linalg.eigvals(np.stack(np.split(U, U.shape[1] // H, axis=1)))
    return values[0] if len(values) == 1 else values
