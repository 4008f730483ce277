"""One step of the backward loop: rebuild the step from the products kept forward, differentiate it.

B batch, T time, H units; time first. Everything here runs inside `tf.function`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import ops

from kerasrnn.engine.problem import Spec


def is_float(leaf):
    """Whether a leaf is a tensor of floats, the only kind that has a gradient."""
    return leaf is not None and leaf.dtype.is_floating


def scope_of(cell, weights):
    """A Keras scope in which the cell's variables have the values `weights`."""
    return keras.StatelessScope(
        list(zip(cell.variables, weights, strict=True)), initialize_variables=False
    )


def lookup(cell, weights):
    """A function that maps a weight variable of the cell to its value in `weights`.

    It raises ValueError for a variable that is not a weight of the cell.
    """
    values = {id(v): value for v, value in zip(cell.variables, weights, strict=True)}

    def value(weight):
        if id(weight) not in values:
            raise ValueError(
                f"linear(h, weight) in {type(cell).__name__}.step: expected a weight of the "
                f"cell, received {getattr(weight, 'path', 'a tensor')} of shape "
                f"{tuple(weight.shape)}; create it with self.add_weight in build()."
            )
        return values[id(weight)]

    return value


class Matrix:
    """The weight of a product, laid out once before the loop.

    A large weight gets a few more columns, of zeros. The product reads the weight by columns at
    every step, and rows that lie a power of two apart would share a few lines of the CPU's cache.
    """

    LARGE = 2**19  # elements; a smaller weight stays in the cache, where more columns only cost
    MORE = 16  # columns of zeros

    def __init__(self, W):
        self.columns, size = W.shape[1], W.shape[0] * W.shape[1]
        self.W = tf.pad(W, [[0, 0], [0, self.MORE]]) if size >= self.LARGE else W

    def times(self, h, blocks=1):
        """h W as a list of `blocks` equal pieces of its last axis."""
        y = ops.matmul(h, self.W)
        y = y if self.W.shape[1] == self.columns else y[..., : self.columns]
        return [y] if blocks == 1 else ops.split(y, blocks, axis=-1)


@dataclass
class Gradients:
    """The gradients of one step, each a list; None where no gradient arrives.

    Attributes:
        products: of every block of every product.
        scanned: of the leaves of z that have a value for each step.
        states: of the states before the step.
        fixed: of the tensors that all steps share.
        weights: of the weights that the step uses directly, outside its products.
    """

    products: list
    scanned: list
    states: list
    fixed: list
    weights: list


class Factor(NamedTuple):
    """A product h W: its weight and columns, and where the h of all steps is kept."""

    product: int
    weight: int
    columns: tuple | None
    source: str  # "inputs" or "states" of what is kept; or "outputs", where h is one step later
    index: int
    state: int


class Rebuilt:
    """A step rebuilt from the products kept in the forward loop, and its gradients."""

    def __init__(self, cell, steps, weights):
        self.cell, self.steps, self.weights = cell, steps, weights
        # Transposed once: `transpose_b=True` inside the loop costs nearly twice the time.
        prepared = steps.tried.prepare(lookup(cell, weights))
        self.transposed = [Matrix(tf.transpose(W)) for W in prepared]
        self._differentiate_zeros()

    def _differentiate_zeros(self):
        """Learn from one step on zeros which gradients exist, and which of them are equal."""
        scanned, fixed, states = self.steps.tried.zeros()
        scanned, stubs = [tf.identity(z) for z in scanned], []
        # For this step every weight counts as used directly; the gradients then show which are.
        self.direct_weights = [i for i, w in enumerate(self.weights) if is_float(w)]
        run, results = self.steps.unmasked, self.steps.tried.zero_results()
        d = self._differentiate(run, scanned, fixed, states, results, stubs=stubs)
        # z and y enter most steps as z + y. Then dz is the very tensor dy, and is stacked once.
        block_of = {id(dy): k for k, dy in enumerate(d.products) if dy is not None}
        reached = [i for i, dz in enumerate(d.scanned) if dz is not None]
        shared = {i: block_of.get(id(d.scanned[i])) for i in reached}
        self.shared_gradients = {i: k for i, k in shared.items() if k is not None}
        self.own = [i for i in reached if i not in self.shared_gradients]
        pairs = self.shared_gradients.items()
        self.sums = {i: k for i, k in pairs if _only_added(scanned[i], stubs[k])}
        self.direct_weights = [i for i, g in enumerate(d.weights) if g is not None]
        self.summed = [("fixed", i) for i, g in enumerate(d.fixed) if g is not None]
        self.summed += [("weights", i) for i in self.direct_weights]

    def results(self, scanned, kept):
        """y of every block, from the iterator `kept`; zeros where `scanned` holds z + y for z."""
        sums = {k: i for i, k in self.sums.items()}
        count = len(self.steps.tried.result_zeros)
        return [tf.zeros_like(scanned[sums[k]]) if k in sums else next(kept) for k in range(count)]

    def gradients(self, scanned, states, results, upstream):
        """The `Gradients` of one step of the loop, with zeros for missing states and products."""
        d = self._differentiate(self.steps, scanned, self.steps.fixed, states, results, upstream)
        # An integer state has no gradient. A scalar 0 fills its place in the carry of the loop.
        pairs = zip(d.states, self.steps.states, strict=True)
        d.states = [_or_zeros(g, s) if is_float(s) else tf.zeros([]) for g, s in pairs]
        d.products = [_or_zeros(g, y) for g, y in zip(d.products, results, strict=True)]
        return d

    def _differentiate(self, run, scanned, fixed, states, results, upstream=None, stubs=None):
        """The `Gradients` of the step `run`, with the results kept in place of its products."""
        fixed = [tf.identity(f) for f in fixed]
        weights = [
            tf.identity(w) if i in self.direct_weights else w for i, w in enumerate(self.weights)
        ]
        calls, count = iter(self.transposed), 0
        d_products = [None] * len(results)

        def linear(h, weight, columns=None, blocks=1):
            nonlocal count
            positions = slice(count, count + blocks)
            count += blocks
            y = _stub(h, results[positions], next(calls), d_products, positions)
            if stubs is not None:
                stubs.extend(y)
            return y[0] if blocks == 1 else y

        with scope_of(self.cell, weights):
            new_states, own_outputs = run(scanned, fixed, states, linear)
        targets = new_states + own_outputs
        upstream = [tf.ones_like(t) for t in targets] if upstream is None else upstream
        pairs = [(t, d) for t, d in zip(targets, upstream, strict=True) if is_float(t)]
        groups = (scanned, states, fixed, [weights[i] for i in self.direct_weights])
        sources = [x for group in groups for x in group if is_float(x)]
        gradients = iter(tf.gradients([t for t, _ in pairs], sources, [d for _, d in pairs]))
        d_scanned, d_states, d_fixed, d_direct = (
            [next(gradients) if is_float(x) else None for x in group] for group in groups
        )
        d_direct = dict(zip(self.direct_weights, d_direct, strict=True))
        d_weights = [d_direct.get(i) for i in range(len(weights))]
        return Gradients(d_products, d_scanned, d_states, d_fixed, d_weights)

    def zero_sums(self):
        """Zeros to start the sums of the loop; float32 where the values have 16 bits."""
        sources = [(self.steps.fixed if g == "fixed" else self.weights)[i] for g, i in self.summed]
        return [tf.zeros_like(x, dtype=_wide(x.dtype)) for x in sources]

    def add(self, sums, d):
        """The sums with one step's gradients added."""
        gradients = [getattr(d, group)[i] for group, i in self.summed]
        pairs = zip(sums, gradients, strict=True)
        return [s if g is None else s + tf.cast(g, s.dtype) for s, g in pairs]

    def specs(self):
        """Specs of what the backward loop stacks: dy of every block, each dz that is not a dy."""
        leaves = [self.steps.scanned[i] for i in self.own]
        return self.steps.tried.result_specs() + [
            Spec(tuple(leaf.shape[1:]), leaf.dtype.name) for leaf in leaves
        ]

    def assemble(self, d_states, sums, ys):
        """The results of the loop as gradients.

        Returns:
            A list with the gradient of each leaf of (z, states, constants), a list with that of
            each weight used directly, and {Factor: its dY in blocks}.
        """
        steps, d_products = self.steps, ys[: len(self.steps.tried.result_zeros)]
        d_scanned = dict(zip(self.own, ys[len(d_products) :], strict=True))
        d_scanned.update({i: d_products[k] for i, k in self.shared_gradients.items()})
        sums = dict(zip(self.summed, sums, strict=True))
        d_fixed = {
            i: tf.cast(sums["fixed", i], f.dtype)
            for i, f in enumerate(steps.fixed)
            if ("fixed", i) in sums
        }
        d_weights = [sums.get(("weights", i)) for i in range(len(self.weights))]
        d_z, d_constants = steps.layout.spread(d_scanned, d_fixed)
        pairs = list(zip(d_states, steps.states, strict=True))[: steps.count]
        d_states = [d if is_float(s) else None for d, s in pairs]
        blocks = iter(d_products)
        d_products = [[next(blocks) for _ in range(p.blocks)] for p in steps.tried.products]
        factors = dict(zip(self._factors(), d_products, strict=True))
        return d_z + d_states + d_constants, d_weights, factors

    def _factors(self):
        """A `Factor` for each product."""
        weights = {id(v): i for i, v in enumerate(self.cell.variables)}
        inputs, emitted, factors = 0, self.steps.emitted(), []
        for k, p in enumerate(self.steps.tried.products):
            source, index = "inputs", inputs
            if p.state is None:
                inputs += 1
            elif p.state in emitted:  # the outputs are kept anyway
                source, index = "outputs", self.steps.output_of(p.state)
            else:
                source, index = "states", p.state
            state = -1 if p.state is None else p.state
            factors.append(Factor(k, weights[id(p.weight)], p.columns, source, index, state))
        return factors


def _only_added(z, y):
    """Whether a step uses z and y only in the sum z + y."""
    uses = {op for tensor in (z, y) for op in tensor.consumers()}
    return len(uses) == 1 and uses.pop().type in ("Add", "AddV2")


def _stub(h, y, transposed, d_products, positions):
    """The blocks y in place of h W. Backward, dy is written to `d_products` and h gets dy Wᵀ."""

    @tf.custom_gradient
    def product(h):
        def gradient(*dy):
            d_products[positions] = dy
            dy = dy[0] if len(dy) == 1 else ops.concatenate(dy, -1)
            return transposed.times(dy)[0]

        return [tf.identity(block) for block in y], gradient

    return product(h)


def weight_gradient(factor, h, dy, weight):
    """Hᵀ dY over all T B rows: the gradient of a whole weight [D, H], in the weight's dtype.

    It is 0 in the columns that the product of `factor` does not use.
    """
    # Time and batch become one axis, so that one product sums over both.
    h = tf.reshape(h, [-1, h.shape[-1]])
    blocks = [tf.matmul(h, tf.reshape(d, [-1, d.shape[-1]]), transpose_a=True) for d in dy]
    g = tf.cast(blocks[0] if len(blocks) == 1 else tf.concat(blocks, -1), weight.dtype)
    if factor.columns is None:
        return g
    start, stop = factor.columns
    return tf.pad(g, [[0, 0], [start, weight.shape[1] - stop]])


def _or_zeros(gradient, like):
    """The gradient, or zeros where there is none."""
    return tf.zeros_like(like) if gradient is None else gradient


def _wide(dtype):
    """The dtype of a sum over many steps: at least float32."""
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype
