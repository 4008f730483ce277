"""Record and replay: the gradient of a recurrence without a gradient by the cell's author.

Forward, the loop keeps for every `linear` its input h and its result y. Backward, the loop
rebuilds only the elementwise part of the step from what was kept and sends dy Wᵀ back; each
weight's gradient is then ONE product Hᵀ dY over all T B rows, instead of T small ones.

B batch, T time, H units; time first. Everything here runs inside `tf.function`.
"""

import weakref
from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import ops, tree

from kerasrnn.steps import AutocastScope, Spec, Steps, project, scan, time_major

SECOND_ORDER = (
    "runner='replay' has no second-order gradients; use Recurrent(..., runner='loop'), which has."
)
# cell -> {(function, sequences, jit): compiled}; the compiled functions hold the cell weakly.
_COMPILED = weakref.WeakKeyDictionary()


def replay(problem):
    """Outputs and final states; recorded at once where training, else only if a gradient asks."""
    z, mask = project(problem)
    with AutocastScope(None):
        weights = [tf.convert_to_tensor(v.value) for v in problem.cell.variables]
    given = (z, problem.states, tuple(problem.constants), weights)
    flat = tree.flatten(given)
    places = [i for i, leaf in enumerate(flat) if _is_float(leaf)]

    @tf.custom_gradient
    def recurrence(*tensors):
        leaves = list(flat)
        for i, tensor in zip(places, tensors):
            leaves[i] = tf.stop_gradient(tensor)  # else a tape differentiates the loop as well
        arguments = (*tree.pack_sequence_as(given, leaves), mask)
        return _differentiable(problem, arguments, places)

    output, states = recurrence(*[flat[i] for i in places])
    if problem.sequences:
        output = tree.map_structure(time_major, output)
    return output, states


def _differentiable(problem, arguments, places):
    """((output, states), its gradient) for tf.custom_gradient."""
    saved = None
    if problem.training:
        result, saved = _function(problem, record)(*arguments)
    else:
        result = _function(problem, forward, jit=False)(*arguments)

    def gradient(*upstream):
        kept = saved if saved is not None else _function(problem, record)(*arguments)[1]
        inputs = [x for x in tree.flatten((arguments, kept, upstream)) if _is_float(x)]
        upstream = [_detached(d) for d in upstream]
        reached = []

        @tf.custom_gradient
        def backward(*_):
            gradients = _function(problem, rewind)(*arguments, kept, upstream)
            reached.extend(i for i in places if gradients[i] is not None)
            return [gradients[i] for i in reached], _refuse

        found = backward(*inputs)
        found = dict(zip(reached, found))
        return [found.get(i) for i in places]

    return result, gradient


def _detached(leaf):
    return tf.stop_gradient(leaf) if _is_float(leaf) else None


def _refuse(*_):
    raise NotImplementedError(SECOND_ORDER)


def _is_float(leaf):
    return leaf is not None and leaf.dtype.is_floating


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


def _values(cell, weights):
    """A scope in which the cell's variables have the values `weights`."""
    return keras.StatelessScope(list(zip(cell.variables, weights)), initialize_variables=False)


def _lookup(cell, weights):
    """weight variable -> its value."""
    values = {id(v): value for v, value in zip(cell.variables, weights)}

    def value(weight):
        if id(weight) not in values:
            raise ValueError(
                f"linear(h, weight) in {type(cell).__name__}.step: expected a weight of the "
                f"cell, received {weight!r}; create it with self.add_weight in build()."
            )
        return values[id(weight)]

    return value


def forward(cell, sequences, z, states, constants, weights, mask):
    """The loop alone, nothing kept: (output, states)."""
    with AutocastScope(cell.compute_dtype), _values(cell, weights):
        steps = Steps(cell, z, states, constants, mask, sequences)
        prepared, emitted = steps.prepared(_lookup(cell, weights)), steps.emitted()

        def body(scanned, states):
            new, own = steps(scanned, steps.fixed, states, steps.plain_linear(prepared))
            return new, [new[i] for i in emitted] + own

        specs = [steps.state_specs()[i] for i in emitted] + steps.own_specs()
        finals, ys = scan(body, steps.scanned, steps.states, specs)
    return steps.result(finals, dict(zip(emitted, ys)), ys[len(emitted) :])


def record(cell, sequences, z, states, constants, weights, mask):
    """The loop, with what the backward loop needs: ((output, states), kept)."""
    with AutocastScope(cell.compute_dtype), _values(cell, weights):
        steps = Steps(cell, z, states, constants, mask, sequences)
        prepared = steps.prepared(_lookup(cell, weights))
        # The states of every step: also the outputs, and the inputs of most products.
        count = len(steps.states) if sequences else steps.count

        def body(scanned, states):
            calls, results, inputs = iter(zip(prepared, steps.products)), [], []

            def linear(h, weight, columns=None):
                W, product = next(calls)
                results.append(ops.matmul(h, W))
                if product.state is None:
                    inputs.append(h)
                return results[-1]

            new, own = steps(scanned, steps.fixed, states, linear)
            return new, new[:count] + own + results + inputs

        specs = steps.state_specs()[:count] + steps.own_specs()
        specs += [p.output for p in steps.products]
        specs += [p.input for p in steps.products if p.state is None]
        finals, ys = scan(body, steps.scanned, steps.states, specs)
    ys = iter(ys)
    stacks = [next(ys) for _ in range(count)]
    own = [next(ys) for _ in steps.own_specs()]
    result = steps.result(finals, dict(enumerate(stacks)), own)
    results = [next(ys) for _ in steps.products]
    return result, (stacks[: steps.count], results, list(ys))


def rewind(cell, sequences, z, states, constants, weights, mask, kept, upstream):
    """The backward loop: the gradient of every leaf of (z, states, constants, weights)."""
    with AutocastScope(cell.compute_dtype):
        with _values(cell, weights):
            steps = Steps(cell, z, states, constants, mask, sequences)
        step = Rebuilt(cell, steps, weights)
        stacks, results, inputs = kept
        pairs = zip(steps.states, stacks)
        before = [tf.concat([s[None], stack[:-1]], axis=0) for s, stack in pairs]
        held = [tf.zeros_like(s) for s in steps.states[steps.count :]]
        d_states, d_emitted, d_own = _upstream(steps, upstream)
        sizes = [len(x) for x in (steps.scanned, before, results, d_emitted, d_own)]

        def body(x_t, carry):
            scanned, states, results, d_emitted_t, d_own_t = _cut(x_t, sizes)
            d_states, sums = _cut(carry, [len(steps.states), len(step.summed)])
            for i, d in zip(d_emitted, d_emitted_t):
                d_states[i] = d_states[i] + d
            d = step.gradients(scanned, states + held, results, d_states + d_own_t)
            return d.states + step.add(sums, d), d.products + [d.scanned[i] for i in step.own]

        xs = steps.scanned + before + results + list(d_emitted.values()) + d_own
        carry, ys = scan(body, xs, d_states + step.zero_sums(), step.specs(), reverse=True)
    d_states, sums = _cut(carry, [len(steps.states), len(step.summed)])
    inputs = iter(inputs)
    rows = [next(inputs) if p.state is None else before[p.state] for p in steps.products]
    return step.assemble(d_states, sums, ys, rows)


def _cut(flat, sizes):
    """A list in pieces of the given sizes."""
    flat = iter(flat)
    return [[next(flat) for _ in range(size)] for size in sizes]


def _upstream(steps, upstream):
    """What comes from above: (into the last states, {state: at every step}, own outputs)."""
    outputs, states = _cut(upstream, [len(steps.aliases), steps.count])
    states = states + [None] * (len(steps.states) - steps.count)
    d_states = [
        (tf.zeros_like(s) if d is None else d) if _is_float(s) else tf.zeros([])
        for s, d in zip(steps.states, states)
    ]
    d_emitted, d_own = {}, []
    for j, d in enumerate(outputs):
        kind, i = steps.place(j)
        if kind == "own":
            d_own.append(d)
        elif not _is_float(steps.states[i]):
            continue
        elif steps.sequences:
            d_emitted[i] = d_emitted[i] + d if i in d_emitted else d
        else:
            d_states[i] = d_states[i] + d
    return d_states, d_emitted, d_own


@dataclass
class Gradients:
    """Of one step; None where nothing arrives."""

    products: list
    scanned: list
    states: list
    fixed: list
    weights: list


class Rebuilt:
    """A step rebuilt from the products that were kept, and its gradient."""

    def __init__(self, cell, steps, weights):
        self.cell, self.steps, self.weights = cell, steps, weights
        # Transposed once: `transpose_b=True` inside the loop costs nearly twice the time.
        self.prepared = steps.prepared(_lookup(cell, weights))
        self.transposed = [tf.transpose(W) for W in self.prepared]
        self._try()

    def _try(self):
        """Learn from one step on zeros what reaches what, and which gradients are the same."""
        self.direct = [i for i, w in enumerate(self.weights) if _is_float(w)]
        d = self._pull(self.steps.flat_step, *self.steps.zeros(), self.steps.trial_results)
        kept = {id(dy): k for k, dy in enumerate(d.products) if dy is not None}
        reached = [i for i, dz in enumerate(d.scanned) if dz is not None]
        self.same = {i: kept[id(d.scanned[i])] for i in reached if id(d.scanned[i]) in kept}
        self.own = [i for i in reached if i not in self.same]
        self.direct = [i for i, g in enumerate(d.weights) if g is not None]
        self.summed = [("fixed", i) for i, g in enumerate(d.fixed) if g is not None]
        self.summed += [("weights", i) for i in self.direct]

    def gradients(self, scanned, states, results, upstream):
        """Gradients of one step of the loop, zeros where nothing arrives."""
        d = self._pull(self.steps, scanned, self.steps.fixed, states, results, upstream)
        pairs = zip(d.states, self.steps.states)
        d.states = [_or_zeros(g, s) if _is_float(s) else tf.zeros([]) for g, s in pairs]
        d.products = [_or_zeros(g, y) for g, y in zip(d.products, results)]
        return d

    def _pull(self, run, scanned, fixed, states, results, upstream=None):
        """Run the step on stubs for its products and differentiate it."""
        fixed = [tf.identity(f) for f in fixed]
        weights = [tf.identity(w) if i in self.direct else w for i, w in enumerate(self.weights)]
        calls = enumerate(zip(results, self.transposed))
        d_products = [None] * len(results)

        def linear(h, weight, columns=None):
            k, (y, transposed) = next(calls)
            return _stub(h, y, transposed, d_products, k)

        with _values(self.cell, weights):
            new, own = run(scanned, fixed, states, linear)
        targets = new + own
        upstream = [tf.ones_like(t) for t in targets] if upstream is None else upstream
        pairs = [(t, d) for t, d in zip(targets, upstream) if _is_float(t)]
        groups = (scanned, states, fixed, [weights[i] for i in self.direct])
        sources = [x for group in groups for x in group if _is_float(x)]
        found = iter(tf.gradients([t for t, _ in pairs], sources, [d for _, d in pairs]))
        d_scanned, d_states, d_fixed, d_direct = (
            [next(found) if _is_float(x) else None for x in group] for group in groups
        )
        d_direct = dict(zip(self.direct, d_direct))
        d_weights = [d_direct.get(i) for i in range(len(weights))]
        return Gradients(d_products, d_scanned, d_states, d_fixed, d_weights)

    def zero_sums(self):
        """Zeros for what is summed inside the loop, in float32 where the values are shorter."""
        sources = [(self.steps.fixed if g == "fixed" else self.weights)[i] for g, i in self.summed]
        return [tf.zeros_like(x, dtype=_wide(x.dtype)) for x in sources]

    def add(self, sums, d):
        """The sums with one step's gradients added."""
        found = [getattr(d, group)[i] for group, i in self.summed]
        return [s if g is None else s + tf.cast(g, s.dtype) for s, g in zip(sums, found)]

    def specs(self):
        """Of what the backward loop stacks: dy of every product, and each dz that is no dy."""
        leaves = [self.steps.scanned[i] for i in self.own]
        return [p.output for p in self.steps.products] + [
            Spec(tuple(leaf.shape[1:]), leaf.dtype.name) for leaf in leaves
        ]

    def assemble(self, d_states, sums, ys, rows):
        """The gradient of every leaf of (z, states, constants, weights), in their order."""
        steps, d_products = self.steps, ys[: len(self.steps.products)]
        d_scanned = dict(zip(self.own, ys[len(d_products) :]))
        d_scanned.update({i: d_products[k] for i, k in self.same.items()})
        sums = dict(zip(self.summed, sums))
        d_fixed = {
            i: tf.cast(sums["fixed", i], f.dtype)
            for i, f in enumerate(steps.fixed)
            if ("fixed", i) in sums
        }
        d_weights = {i: sums["weights", i] for i in self.direct}
        index = {id(v): i for i, v in enumerate(self.cell.variables)}
        for product, h, dy in zip(steps.products, rows, d_products):
            i = index[id(product.weight)]
            g = _weight_gradient(product, h, dy, self.weights[i])
            d_weights[i] = d_weights[i] + g if i in d_weights else g
        d_z, d_constants = steps.distribute(d_scanned, d_fixed)
        d_states = [
            d if _is_float(s) else None for d, s in zip(d_states, steps.states[: steps.count])
        ]
        return d_z + d_states + d_constants + [d_weights.get(i) for i in range(len(self.weights))]


def _stub(h, y, transposed, d_products, k):
    """y in place of h W; what comes back, dy, is noted and goes on as dy Wᵀ."""

    @tf.custom_gradient
    def product(h):
        def gradient(dy):
            d_products[k] = dy
            return ops.matmul(dy, transposed)

        return tf.identity(y), gradient

    return product(h)


def _weight_gradient(product, h, dy, weight):
    """Hᵀ dY over all T B rows, in the place of the product's columns, as the weight's dtype."""
    h, dy = (tf.reshape(x, [-1, x.shape[-1]]) for x in (h, dy))
    g = tf.cast(tf.matmul(h, dy, transpose_a=True), weight.dtype)
    if product.columns is None:
        return g
    start, stop = product.columns
    return tf.pad(g, [[0, 0], [start, weight.shape[1] - stop]])


def _or_zeros(gradient, like):
    return tf.zeros_like(like) if gradient is None else gradient


def _wide(dtype):
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype
