"""How gradients flow through time: seen, and kept level.

B batch, T time, S all values of a cell's state side by side. h(t) below is the whole state.
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


class Probed(Cell):
    """A cell whose states are h(t) + δ(t): ∂L/∂δ(t) is ∂L/∂h(t), over every path."""

    def __init__(self, cell, probes):
        super().__init__(dtype=cell.dtype_policy)
        self.cell, self.probes = cell, probes
        self.state_size = cell.state_size
        self.output_size = (cell.output_size, cell.state_size)

    def project(self, x, training=None):
        return self.cell.project(x, training=training), tuple(self.probes)

    def step(self, z, state, linear, *constants):
        z, probes = z
        output, new = self.cell.step(z, state, linear, *constants)
        flat = tree.flatten(new)
        moved = [s + δ for s, δ in zip(flat, probes, strict=True)]
        outputs = [
            next((m for m, s in zip(moved, flat, strict=True) if s is o), o)
            for o in tree.flatten(output)
        ]
        new = tree.pack_sequence_as(state, moved)
        return (tree.pack_sequence_as(output, outputs), new), new


class Watch:
    """An observer of one layer: its problem, its states [T, B, S], and probes to differentiate."""

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
        probed = dataclasses.replace(problem, cell=Probed(cell, self.probes), sequences=True)
        (output, states), finals = compute(probed)
        self.states = [time_major(s) for s in tree.flatten(states)]
        if not problem.sequences:
            output = tree.map_structure(lambda o: o[:, -1], output)
        return output, finals

    def before(self):
        """The states that every step began with, each [T, B, size]."""
        first = [s[None] for s in tree.flatten(self.problem.states)]
        pairs = zip(first, self.states, strict=True)
        return [tf.concat([f, s[:-1]], axis=0) for f, s in pairs]

    def folded_step(self):
        """`states [T B, size] -> new states`: all steps at once, time folded into the batch."""
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
    """How much of a loss reaches each time step of a layer.

    Attributes:
        layer: its name.
        gradient_norm: ‖∂L/∂h(t)‖ over the batch, for t = 0 … T - 1.
        jacobian_norm: ‖∂h(t)/∂h(t-1)‖₂, mean over the examples, for t = 0 … T - 1.
        reach: ‖∂h(T)/∂h(T-k)‖₂, mean over the examples, for k = 1 … T.
        nonfinite: where NaN or ∞ began, for example "inputs at step 3"; empty where nowhere.
    """

    layer: str
    gradient_norm: np.ndarray
    jacobian_norm: np.ndarray
    reach: np.ndarray
    nonfinite: tuple

    def plot(self, path):
        """Draw the three curves over time into an image file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 3.5), layout="constrained")
        curves = {
            "‖∂L/∂h(t)‖ over t": self.gradient_norm,
            "‖∂h(t)/∂h(t-1)‖ over t": self.jacobian_norm,
            "‖∂h(T)/∂h(T-k)‖ over k": self.reach,
        }
        for i, (title, values) in enumerate(curves.items(), 1):
            axes = figure.add_subplot(1, 3, i, title=title)
            axes.semilogy(np.where(values > 0, values, np.nan))
        figure.suptitle(self.layer)
        figure.savefig(path)


def gradient_flow(model, batch, layer=None, examples=4):
    """See how a loss's gradient vanishes or explodes through time.

    Args:
        model: a compiled Keras model with at least one `Recurrent`.
        batch: (inputs, targets), as `fit` takes them.
        layer: the `Recurrent` to look at; by default the model's first.
        examples: for how many rows of the batch the Jacobians are worked out.

    Returns:
        A `GradientFlow`, of what the model does when not training (no dropout).

    Raises:
        ValueError: if the model is not compiled, or has no such layer.
    """
    layer = _found(model, layer)
    x, y = batch
    with tf.GradientTape() as tape:
        watch = _watched(model, x, y, layer, tape)
    gradients = tape.gradient(watch.loss, watch.probes)
    norms = np.sqrt(sum(np.square(_numpy(g)).sum(axis=(1, 2)) for g in gradients))
    J = _jacobians(watch, examples)
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


def _found(model, layer):
    if not model.compiled:
        raise ValueError(
            f"model: expected a compiled model, received {model.name!r} without a loss; call "
            "model.compile(optimizer, loss) first."
        )
    layers = [one for one in layers_of(model) if isinstance(one, Recurrent)]
    if not layers or (layer is not None and layer not in layers):
        raise ValueError(
            f"layer: expected one of the model's Recurrent layers {[one.name for one in layers]}, "
            f"received {layer!r}; kerasrnn.adopt(model) makes stock layers into Recurrent ones."
        )
    return layers[0] if layer is None else layer


def _watched(model, x, y, layer, tape, training=False):
    """The model run under `tape` with a Watch on the layer; `watch.loss` is its loss."""
    watch = Watch(layer, tape)
    with observing(watch):
        outputs = model(x, training=training)
    watch.loss = model.compute_loss(x=x, y=y, y_pred=outputs, training=training)
    return watch


def _numpy(tensor):
    return np.asarray(tf.cast(tensor, tf.float64))


def _jacobians(watch, examples):
    """∂h(t)/∂h(t-1) [T, examples, S, S]; the identity where a step is masked."""
    rows = slice(0, examples)
    problem = watch.problem
    small = dataclasses.replace(
        problem,
        x=problem.x[rows],
        states=tree.map_structure(lambda s: s[rows], problem.states),
        constants=tree.map_structure(lambda c: None if c is None else c[rows], problem.constants),
        mask=None,
    )
    part = Watch(watch.layer, None)
    part.problem, part.states = small, [s[:, rows] for s in watch.states]
    step, sizes = part.folded_step(), [s.shape[-1] for s in part.states]
    before = tf.concat([tf.reshape(s, (-1, s.shape[-1])) for s in part.before()], axis=-1)
    with tf.GradientTape() as tape:
        tape.watch(before)
        new = tf.concat(step(tf.split(before, sizes, axis=-1)), axis=-1)
    J = _numpy(tape.batch_jacobian(new, before))
    J = J.reshape(part.states[0].shape[0], -1, sum(sizes), sum(sizes))
    if problem.mask is None:
        return J
    mask = np.asarray(time_major(problem.mask))[:, rows, None, None]
    return np.where(mask, J, np.eye(sum(sizes)))


def _spectral_norm(J):
    """Mean over the examples of the largest singular value, NaN where it is not finite."""
    if not np.isfinite(J).all():
        return np.nan
    return np.linalg.norm(J, ord=2, axis=(-2, -1)).mean()


def _nonfinite(watch, gradients):
    """Where NaN or ∞ began: forward for inputs and states, backward for gradients."""
    found = []
    kinds = {"inputs": [time_major(watch.problem.x)], "states": watch.states}
    for kind, tensors in kinds.items():
        bad = _bad_steps(tensors)
        if len(bad):
            found.append(f"{kind} at step {bad[0]}")
    bad = _bad_steps(gradients)
    if len(bad):
        found.append(f"gradients at step {bad[-1]}, and back from there")
    return tuple(found)


def _bad_steps(tensors):
    """The steps t at which any of the tensors [T, B, …] is not finite."""
    flat = [_numpy(t).reshape(t.shape[0], -1) for t in tensors]
    return np.flatnonzero(~np.isfinite(np.concatenate(flat, axis=1)).all(axis=1))


def pascanu_regularizer(model, x, y, layer=None):
    """Ω = Σ_t (‖∂L/∂h(t+1) ∂h(t+1)/∂h(t)‖ / ‖∂L/∂h(t+1)‖ - 1)², mean over the batch.

    Pascanu, Mikolov and Bengio 2013, equations 9 and 10: it is small where the gradient keeps
    its length from step to step. As in the paper ∂L/∂h and h are taken as given, so that Ω
    reaches the weights through ∂h(t+1)/∂h(t) only. Steps that no gradient reaches do not count.

    Add `weight * pascanu_regularizer(self, x, y)` to the loss in a `train_step` of your own.

    Args:
        model: a compiled Keras model.
        x: inputs.
        y: targets.
        layer: the `Recurrent`; by default the model's first.

    Returns:
        A scalar tensor that a GradientTape can differentiate.
    """
    layer = _found(model, layer)
    with tf.GradientTape() as tape:
        watch = _watched(model, x, y, layer, tape)
    d = [tf.stop_gradient(g) for g in tape.gradient(watch.loss, watch.probes)]
    d = [tf.reshape(g, (-1, g.shape[-1])) for g in d]
    before = [tf.stop_gradient(tf.reshape(s, (-1, s.shape[-1]))) for s in watch.before()]
    step = watch.folded_step()
    with tf.GradientTape() as tape:
        tape.watch(before)
        target = sum(tf.reduce_sum(s * g) for s, g in zip(step(before), d, strict=True))
    return _omega(watch, d, tape.gradient(target, before))


def _omega(watch, d, carried):
    """Ω from ∂L/∂h(t+1) and what a step carries of it back to h(t), each [T B, size]."""
    above = tf.sqrt(sum(tf.reduce_sum(tf.square(g), -1) for g in d))
    below = tf.sqrt(sum(tf.reduce_sum(tf.square(g), -1) for g in carried) + 1e-30)
    T, B = ops.shape(watch.states[0])[:2]
    counts = tf.cast(tf.reshape(above, (T, B)) > 0, above.dtype)
    if watch.problem.mask is not None:
        counts = counts * tf.cast(time_major(watch.problem.mask), counts.dtype)
    ratio = tf.reshape(below / tf.where(above > 0, above, 1.0), (T, B))
    # The first step's state is the initial one: there is nothing before it to keep level with.
    terms = (counts * tf.square(ratio - 1))[1:]
    return tf.reduce_sum(terms) / tf.cast(B, terms.dtype)


def eigenvalues(layer):
    """Eigenvalues of the recurrent matrix: [H] for a simple cell, [blocks, H] for a gated one.

    Largest modulus above 1: gradients can explode; all well below 1: they vanish.

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
    found = np.linalg.eigvals(np.stack(np.split(U, U.shape[1] // H, axis=1)))
    return found[0] if len(found) == 1 else found
