"""Record and replay: the gradient of a recurrence without a gradient by the cell's author.

Forward, the loop keeps for every `linear` its input h and its result y. Backward, the loop
rebuilds only the elementwise part of the step from what was kept and sends dy Wᵀ back; each
weight's gradient is then ONE product Hᵀ dY over all T B rows, instead of T small ones.

B batch, T time, H units; time first. Everything here runs inside `tf.function`.
"""

import weakref
from itertools import chain
from typing import Any, NamedTuple

import tensorflow as tf
from keras import tree

from kerasrnn.compat.keras import AutocastScope
from kerasrnn.engine.backward import Matrix, Rebuilt, is_float, lookup, scope_of, weight_gradient
from kerasrnn.engine.problem import project, time_major
from kerasrnn.engine.scan import scan
from kerasrnn.engine.steps import Steps

SECOND_ORDER = (
    "runner='replay' has no second-order gradients; use Recurrent(..., runner='loop'), which has."
)
# cell -> {(function, sequences, jit): compiled}; the compiled functions hold the cell weakly.
_COMPILED = weakref.WeakKeyDictionary()


class Arguments(NamedTuple):
    """What a recurrence depends on: nests of tensors, time first.

    Attributes:
        z: what `project` gave for all steps.
        states: before the first step.
        constants: what every step sees besides.
        weights: the cell's, in order.
        mask: bool [T, B], or None.
    """

    z: Any
    states: Any
    constants: tuple
    weights: list
    mask: Any


def replay(problem):
    """Outputs and final states; recorded at once where training, else only if a gradient asks."""
    z, mask = project(problem)
    with AutocastScope(None):
        weights = [tf.convert_to_tensor(v.value) for v in problem.cell.variables]
    given = (z, problem.states, tuple(problem.constants), weights)
    flat = tree.flatten(given)
    places = [i for i, leaf in enumerate(flat) if is_float(leaf)]

    @tf.custom_gradient
    def recurrence(*tensors):
        leaves = list(flat)
        for i, tensor in zip(places, tensors, strict=True):
            leaves[i] = tf.stop_gradient(tensor)  # else a tape differentiates the loop as well
        arguments = Arguments(*tree.pack_sequence_as(given, leaves), mask)
        return _differentiable(problem, arguments, places)

    return recurrence(*[flat[i] for i in places])


def _differentiable(problem, arguments, places):
    """((output, states), its gradient) for tf.custom_gradient."""
    saved = None
    if problem.training:
        result, kept = _function(problem, record)(arguments)
        saved = tree.map_structure(_detached, (result, kept))
    else:
        # Without XLA, so that Keras's own exports can convert it.
        result = _function(problem, forward, jit=False)(arguments)
    result = (_batch_first(problem, result[0]), result[1])

    def gradient(*upstream):
        recorded = saved or _function(problem, record)(arguments)
        inputs = [x for x in tree.flatten((arguments, recorded, upstream)) if is_float(x)]
        count = len(tree.flatten(result[0]))
        upstream = [*_batch_first(problem, upstream[:count]), *upstream[count:]]
        upstream = [_detached(d) for d in upstream]
        reached = []

        @tf.custom_gradient
        def backward(*_):
            gradients = _gradients(problem, arguments, recorded, upstream)
            reached.extend(i for i in places if gradients[i] is not None)
            return [gradients[i] for i in reached], _refuse

        found = backward(*inputs)
        found = dict(zip(reached, found, strict=True))
        return [found.get(i) for i in places]

    return result, gradient


def _gradients(problem, arguments, recorded, upstream):
    """The gradient of every leaf of (z, states, constants, weights), None where none."""
    (output, _), kept = recorded
    outputs = tree.flatten(output) if problem.sequences else []
    # The sums z + y stand in for z, which is not needed any more.
    leaves = zip(tree.flatten(arguments.z), kept["sums"], strict=True)
    sums = [leaf if s is None else s for leaf, s in leaves]
    summed = arguments._replace(z=tree.pack_sequence_as(arguments.z, sums))
    found, d_weights, d_products = _function(problem, rewind)(summed, outputs, kept, upstream)
    first = tree.flatten(arguments.states)
    for factor, dy in d_products.items():
        W = arguments.weights[factor.weight]
        if factor.source == "outputs":  # h(t-1) in two pieces, which saves a copy of all of them
            start, rest = first[factor.state], outputs[factor.index][:-1]
            g = weight_gradient(factor, start, [d[0] for d in dy], W)
            g += weight_gradient(factor, rest, [d[1:] for d in dy], W)
        else:
            g = weight_gradient(factor, kept[factor.source][factor.index], dy, W)
        old = d_weights[factor.weight]
        d_weights[factor.weight] = g if old is None else old + g
    return found + d_weights


def _batch_first(problem, outputs):
    """Outputs at every step [T, B, ...] as [B, T, ...], or back; the last ones as they are."""
    return tree.map_structure(time_major, outputs) if problem.sequences else outputs


def _detached(leaf):
    return tf.stop_gradient(leaf) if is_float(leaf) else leaf


def _refuse(*_):
    raise NotImplementedError(SECOND_ORDER)


def _function(problem, function, jit=True):
    """`function` of this cell as a tf.function, made once per cell."""
    compiled = _COMPILED.setdefault(problem.cell, {})
    key = (function, problem.sequences, jit)
    if key not in compiled:
        cell, sequences = weakref.ref(problem.cell), problem.sequences
        compiled[key] = tf.function(
            lambda *arguments: function(cell(), sequences, *arguments),
            jit_compile=jit,
            autograph=False,
            reduce_retracing=True,
        )
    return compiled[key]


def _steps(cell, sequences, arguments):
    z, states, constants, _, mask = arguments
    return Steps(cell, z, states, constants, mask, sequences)


def forward(cell, sequences, arguments):
    """The loop alone, nothing kept: (output, states)."""
    weights = arguments.weights
    with AutocastScope(cell.compute_dtype), scope_of(cell, weights):
        steps = _steps(cell, sequences, arguments)
        matrices = [Matrix(W) for W in steps.tried.prepared(lookup(cell, weights))]
        emitted = steps.emitted()

        def body(scanned, states):
            tape = Tape(steps.tried.products, matrices, {})
            new, own = steps(scanned, steps.fixed, states, tape.linear)
            return new, [new[i] for i in emitted] + own

        specs = [steps.state_specs()[i] for i in emitted] + steps.own_specs()
        finals, ys = scan(body, steps.scanned, steps.states, specs)
    return steps.result(finals, dict(zip(emitted, ys, strict=False)), ys[len(emitted) :])


class Tape:
    """The products of one step, as they are made: results y (or z + y) and inputs h."""

    def __init__(self, products, matrices, addends):
        self.calls, self.addends = iter(zip(products, matrices, strict=True)), addends
        self.results, self.inputs = [], []

    def linear(self, h, weight, columns=None, blocks=1):
        product, matrix = next(self.calls)
        y = matrix.times(h, blocks)
        for block in y:
            z = self.addends.get(len(self.results))
            self.results.append(block if z is None else z + block)
        if product.state is None:
            self.inputs.append(h)
        return y[0] if blocks == 1 else y


def record(cell, sequences, arguments):
    """The loop, with what the backward loop needs: ((output, states), kept)."""
    weights = arguments.weights
    with AutocastScope(cell.compute_dtype), scope_of(cell, weights):
        steps = _steps(cell, sequences, arguments)
        matrices = [Matrix(W) for W in steps.tried.prepared(lookup(cell, weights))]
        emitted = steps.emitted()
        sums = {k: i for i, k in Rebuilt(cell, steps, weights).sums.items()}
        unseen = [i for i in range(steps.count) if i not in emitted]

        def body(scanned, states):
            tape = Tape(steps.tried.products, matrices, {k: scanned[i] for k, i in sums.items()})
            new, own = steps(scanned, steps.fixed, states, tape.linear)
            before = [states[i] for i in unseen]
            return new, [new[i] for i in emitted] + own + before + tape.results + tape.inputs

        groups = [[steps.state_specs()[i] for i in emitted], steps.own_specs()]
        groups += [[steps.state_specs()[i] for i in unseen], steps.tried.result_specs()]
        groups += [[p.input for p in steps.tried.products if p.state is None]]
        finals, ys = scan(body, steps.scanned, steps.states, list(chain(*groups)))
    stacks, own, before, results, inputs = _cut(ys, [len(group) for group in groups])
    result = steps.result(finals, dict(zip(emitted, stacks, strict=True)), own)
    before = dict(zip(unseen, before, strict=True))
    kept = {
        "states": [before.get(i) for i in range(steps.count)],
        "sums": steps.layout.spread({i: results[k] for k, i in sums.items()}, {})[0],
        "results": [None if k in sums else y for k, y in enumerate(results)],
        "inputs": inputs,
    }
    return result, kept


def rewind(cell, sequences, arguments, outputs, kept, upstream):
    """The backward loop.

    Returns the gradients of the leaves of (z, states, constants), those of the weights that the
    step uses directly, and dY [T, B, ...] of every product, in its blocks.
    """
    weights = arguments.weights
    with AutocastScope(cell.compute_dtype):
        with scope_of(cell, weights):
            steps = _steps(cell, sequences, arguments)
        step = Rebuilt(cell, steps, weights)
        held = [tf.zeros_like(s) for s in steps.states[steps.count :]]
        d_states, d_emitted, d_own = _upstream(steps, upstream)
        before = [s for s in kept["states"] if s is not None]
        results = [y for y in kept["results"] if y is not None]
        seen = [i for i, s in enumerate(kept["states"]) if s is None]
        delayed = [(steps.states[i], outputs[steps.output_of(i)]) for i in seen]
        groups = (steps.scanned, before, results, list(d_emitted.values()), d_own, delayed)

        def body(x_t, carry):
            scanned, before, results, d_emitted_t, d_own_t, last = _cut(x_t, map(len, groups))
            d_states, sums = _cut(carry, [len(steps.states), len(step.summed)])
            for i, d in zip(d_emitted, d_emitted_t, strict=True):
                d_states[i] = d_states[i] + d
            before, results = iter(before), iter(results)
            last = dict(zip(seen, last, strict=True))
            states = [last[i] if i in last else next(before) for i in range(steps.count)]
            results = step.results(scanned, results)
            d = step.gradients(scanned, states + held, results, d_states + d_own_t)
            return d.states + step.add(sums, d), d.products + [d.scanned[i] for i in step.own]

        xs = list(chain(*groups[:-1]))
        start = d_states + step.zero_sums()
        carry, ys = scan(body, xs, start, step.specs(), reverse=True, delayed=delayed)
    d_states, sums = _cut(carry, [len(steps.states), len(step.summed)])
    return step.assemble(d_states, sums, ys)


def _cut(flat, sizes):
    """A list in pieces of the given sizes."""
    flat = iter(flat)
    return [[next(flat) for _ in range(size)] for size in sizes]


def _upstream(steps, upstream):
    """What comes from above: (into the last states, {state: at every step}, own outputs)."""
    outputs, states = _cut(upstream, [len(steps.tried.aliases), steps.count])
    states = states + [None] * (len(steps.states) - steps.count)
    d_states = [
        (tf.zeros_like(s) if d is None else d) if is_float(s) else tf.zeros([])
        for s, d in zip(steps.states, states, strict=True)
    ]
    d_emitted, d_own = {}, []
    for j, d in enumerate(outputs):
        kind, i = steps.place(j)
        if kind == "own":
            d_own.append(d)
        elif not is_float(steps.states[i]):
            continue
        elif steps.sequences:
            d_emitted[i] = d_emitted[i] + d if i in d_emitted else d
        else:
            d_states[i] = d_states[i] + d
    return d_states, d_emitted, d_own
