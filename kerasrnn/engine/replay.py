"""Record and replay: the gradient of a recurrence, from its step alone.

The forward loop keeps the input h and the result y of every `linear`. The backward loop rebuilds
only the elementwise part of the step from these and sends dy Wᵀ back. After it, each weight's
gradient is ONE product Hᵀ dY over all T B rows, instead of T small products.

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
# cell -> {(function, sequences, jit): compiled}. The compiled functions hold the cell weakly,
# because a cell that its own entry refers to would never be freed.
_COMPILED = weakref.WeakKeyDictionary()


class Arguments(NamedTuple):
    """The tensors that a recurrence depends on, in nests; time first.

    Attributes:
        z: the result of `project` for all steps.
        states: the states before the first step.
        constants: the cell's constants, the same at every step.
        weights: the values of the cell's variables, in order.
        mask: bool [T, B], or None.
    """

    z: Any
    states: Any
    constants: tuple
    weights: list
    mask: Any


def replay(problem):
    """Compute a problem: (outputs, final states).

    In training the forward loop keeps what the gradient needs. Otherwise it keeps nothing, and a
    gradient that is asked for all the same runs it once more.
    """
    z, mask = project(problem)
    with AutocastScope(None):
        weights = [tf.convert_to_tensor(v.value) for v in problem.cell.variables]
    inputs = (z, problem.states, tuple(problem.constants), weights)
    flat = tree.flatten(inputs)
    float_indices = [i for i, leaf in enumerate(flat) if is_float(leaf)]

    @tf.custom_gradient
    def recurrence(*tensors):
        leaves = list(flat)
        for i, tensor in zip(float_indices, tensors, strict=True):
            leaves[i] = tf.stop_gradient(tensor)  # else a tape differentiates the loop as well
        arguments = Arguments(*tree.pack_sequence_as(inputs, leaves), mask)
        return _differentiable(problem, arguments, float_indices)

    return recurrence(*[flat[i] for i in float_indices])


def _differentiable(problem, arguments, float_indices):
    """((output, states), its gradient function) for `tf.custom_gradient`."""
    recorded_forward = None
    if problem.training:
        result, kept = _function(problem, record)(arguments)
        recorded_forward = tree.map_structure(_detached, (result, kept))
    else:
        # Without XLA, so that Keras's own exports can convert it.
        result = _function(problem, forward, jit=False)(arguments)
    result = (_batch_first(problem, result[0]), result[1])

    def gradient(*upstream):
        recorded = recorded_forward or _function(problem, record)(arguments)
        # `backward` takes all these only so that a second derivative of any of them is refused.
        inputs = [x for x in tree.flatten((arguments, recorded, upstream)) if is_float(x)]
        count = len(tree.flatten(result[0]))
        upstream = [*_batch_first(problem, upstream[:count]), *upstream[count:]]
        upstream = [_detached(d) for d in upstream]
        reached = []

        @tf.custom_gradient
        def backward(*_):
            gradients = _gradients(problem, arguments, recorded, upstream)
            # A custom_gradient function returns tensors only; None is put back behind it.
            reached.extend(i for i in float_indices if gradients[i] is not None)
            return [gradients[i] for i in reached], _refuse

        gradients = dict(zip(reached, backward(*inputs), strict=True))
        return [gradients.get(i) for i in float_indices]

    return result, gradient


def _gradients(problem, arguments, recorded, upstream):
    """A list with the gradient of every leaf of (z, states, constants, weights), or None."""
    (output, _), kept = recorded
    outputs = tree.flatten(output) if problem.sequences else []
    # Where the sum z + y was kept, it takes the place of z, which the step does not need alone.
    leaves = zip(tree.flatten(arguments.z), kept["sums"], strict=True)
    sums = [leaf if s is None else s for leaf, s in leaves]
    summed = arguments._replace(z=tree.pack_sequence_as(arguments.z, sums))
    rewound = _function(problem, rewind)(summed, outputs, kept, upstream)
    d_leaves, d_weights, d_products = rewound
    # These products run outside XLA, which compiles only the loop.
    first = tree.flatten(arguments.states)
    for factor, dy in d_products.items():
        W = arguments.weights[factor.weight]
        if factor.source == "outputs":  # h(t-1) for t = 0 and t > 0 apart saves a copy of them all
            h_first, h_later = first[factor.state], outputs[factor.index][:-1]
            g = weight_gradient(factor, h_first, [d[0] for d in dy], W)
            g += weight_gradient(factor, h_later, [d[1:] for d in dy], W)
        else:
            g = weight_gradient(factor, kept[factor.source][factor.index], dy, W)
        old = d_weights[factor.weight]
        d_weights[factor.weight] = g if old is None else old + g
    return d_leaves + d_weights


def _batch_first(problem, outputs):
    """Outputs of all steps, [T, B, ...] to [B, T, ...] or back; a last output stays [B, ...]."""
    return tree.map_structure(time_major, outputs) if problem.sequences else outputs


def _detached(leaf):
    """The leaf without its gradient."""
    return tf.stop_gradient(leaf) if is_float(leaf) else leaf


def _refuse(*_):
    """The gradient of the gradient, which this runner does not have."""
    raise NotImplementedError(SECOND_ORDER)


def _function(problem, function, jit=True):
    """`function` for the cell of a problem as a `tf.function`, made once for each cell."""
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
    """The `Steps` of a cell on these arguments."""
    z, states, constants, _, mask = arguments
    return Steps(cell, z, states, constants, mask, sequences)


def forward(cell, sequences, arguments):
    """The forward loop, which keeps nothing: (output, states)."""
    weights = arguments.weights
    with AutocastScope(cell.compute_dtype), scope_of(cell, weights):
        steps = _steps(cell, sequences, arguments)
        matrices = [Matrix(W) for W in steps.tried.prepare(lookup(cell, weights))]
        emitted = steps.emitted()

        def body(scanned, states):
            tape = Tape(steps.tried.products, matrices, {})
            new_states, own_outputs = steps(scanned, steps.fixed, states, tape.linear)
            return new_states, [new_states[i] for i in emitted] + own_outputs

        specs = [steps.state_specs()[i] for i in emitted] + steps.own_specs()
        finals, ys = scan(body, steps.scanned, steps.states, specs)
    return steps.result(finals, dict(zip(emitted, ys, strict=False)), ys[len(emitted) :])


class Tape:
    """Computes the products of one step and keeps their results and inputs.

    Attributes:
        results: y of every block, or z + y where z is in `addends` {block: z}.
        inputs: h of every product whose input is not a state.
    """

    def __init__(self, products, matrices, addends):
        self.calls, self.addends = iter(zip(products, matrices, strict=True)), addends
        self.results, self.inputs = [], []

    def linear(self, h, weight, columns=None, blocks=1):
        """The `linear` of the step. Its products come in the order in which they were tried."""
        product, matrix = next(self.calls)
        y = matrix.times(h, blocks)
        for block in y:
            z = self.addends.get(len(self.results))
            self.results.append(block if z is None else z + block)
        if product.state is None:
            self.inputs.append(h)
        return y[0] if blocks == 1 else y


def record(cell, sequences, arguments):
    """The forward loop, which keeps what the backward loop needs: ((output, states), kept)."""
    weights = arguments.weights
    with AutocastScope(cell.compute_dtype), scope_of(cell, weights):
        steps = _steps(cell, sequences, arguments)
        matrices = [Matrix(W) for W in steps.tried.prepare(lookup(cell, weights))]
        emitted = steps.emitted()
        sums = {k: i for i, k in Rebuilt(cell, steps, weights).sums.items()}
        # The states that are outputs are kept as outputs. The others are kept before each step.
        unseen = [i for i in range(steps.count) if i not in emitted]

        def body(scanned, states):
            tape = Tape(steps.tried.products, matrices, {k: scanned[i] for k, i in sums.items()})
            new_states, own_outputs = steps(scanned, steps.fixed, states, tape.linear)
            outputs = [new_states[i] for i in emitted] + own_outputs
            before = [states[i] for i in unseen]
            return new_states, outputs + before + tape.results + tape.inputs

        groups = [[steps.state_specs()[i] for i in emitted], steps.own_specs()]
        groups += [[steps.state_specs()[i] for i in unseen], steps.tried.result_specs()]
        groups += [[p.input for p in steps.tried.products if p.state is None]]
        finals, ys = scan(body, steps.scanned, steps.states, list(chain(*groups)))
    stacks, own_outputs, before, results, inputs = _cut(ys, [len(group) for group in groups])
    result = steps.result(finals, dict(zip(emitted, stacks, strict=True)), own_outputs)
    before = dict(zip(unseen, before, strict=True))
    kept = {
        "states": [before.get(i) for i in range(steps.count)],
        "sums": steps.layout.spread({i: results[k] for k, i in sums.items()}, {})[0],
        "results": [None if k in sums else y for k, y in enumerate(results)],
        "inputs": inputs,
    }
    return result, kept


def rewind(cell, sequences, arguments, outputs, kept, upstream):
    """The backward loop over a recorded recurrence.

    Args:
        cell, sequences, arguments: as in `record`, with the kept sums z + y in place of z.
        outputs: the outputs of all steps, time first; empty without `sequences`.
        kept: what `record` kept.
        upstream: the gradients of the outputs, time first, and of the final states.

    Returns:
        The gradients of the leaves of (z, states, constants), those of the weights that the step
        uses directly, and {`Factor`: dY [T, B, ...] of its blocks}.
    """
    weights = arguments.weights
    with AutocastScope(cell.compute_dtype):
        with scope_of(cell, weights):
            steps = _steps(cell, sequences, arguments)
        step = Rebuilt(cell, steps, weights)
        # Zeros for the held outputs: no step reads their values, and a mask only repeats them.
        held = [tf.zeros_like(s) for s in steps.states[steps.count :]]
        d_states, d_emitted, d_own = _upstream(steps, upstream)
        before = [s for s in kept["states"] if s is not None]
        results = [y for y in kept["results"] if y is not None]
        seen = [i for i, s in enumerate(kept["states"]) if s is None]  # those that are outputs
        # h(t-1) is the output of step t - 1, so it is read with a delay and not stored twice.
        delayed = [(steps.states[i], outputs[steps.output_of(i)]) for i in seen]
        groups = (steps.scanned, before, results, list(d_emitted.values()), d_own, delayed)

        def body(x_t, carry):
            scanned, before, results, d_emitted_t, d_own_t, delayed_t = _cut(x_t, map(len, groups))
            d_states, sums = _cut(carry, [len(steps.states), len(step.summed)])
            for i, d in zip(d_emitted, d_emitted_t, strict=True):
                d_states[i] = d_states[i] + d
            before, results = iter(before), iter(results)
            seen_t = dict(zip(seen, delayed_t, strict=True))
            states = [seen_t[i] if i in seen_t else next(before) for i in range(steps.count)]
            results = step.results(scanned, results)
            d = step.gradients(scanned, states + held, results, d_states + d_own_t)
            return d.states + step.add(sums, d), d.products + [d.scanned[i] for i in step.own]

        xs = list(chain(*groups[:-1]))
        start = d_states + step.zero_sums()
        carry, ys = scan(body, xs, start, step.specs(), reverse=True, delayed=delayed)
    d_states, sums = _cut(carry, [len(steps.states), len(step.summed)])
    return step.assemble(d_states, sums, ys)


def _cut(flat, sizes):
    """A list cut into pieces of these sizes."""
    flat = iter(flat)
    return [[next(flat) for _ in range(size)] for size in sizes]


def _upstream(steps, upstream):
    """The gradients that come from above, in the order of the backward loop.

    Returns:
        The gradients of the last states (with those of a last output), {index of a state that is
        an output: its gradients at all steps}, and the gradients of the own outputs.
    """
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
