"""One step of the backward loop: the step rebuilt from the products that were kept.

B batch, T time, H units; time first. Everything here runs inside `tf.function`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import ops

from kerasrnn.engine.problem import Spec


def is_float(leaf):
    return leaf is not None and leaf.dtype.is_floating


def scope_of(cell, weights):
    """A scope in which the cell's variables have the values `weights`."""
    return keras.StatelessScope(
        list(zip(cell.variables, weights, strict=True)), initialize_variables=False
    )


def lookup(cell, weights):
    """weight variable -> its value."""
    values = {id(v): value for v, value in zip(cell.variables, weights, strict=True)}

    def value(weight):
        if id(weight) not in values:
            raise ValueError(
                f"linear(h, weight) in {type(cell).__name__}.step: expected a weight of the "
                f"cell, received {weight!r}; create it with self.add_weight in build()."
            )
        return values[id(weight)]

    return value


class Matrix:
    """The weight of a product, laid out once for the loop.

    A large one gets a few columns of zeros: rows that are a power of two apart share the same
    few lines of the CPU's cache, and the product copies the weight by columns at every step.
    """

    LARGE = 2**19  # elements; a smaller one stays in the cache, where more columns only cost
    MORE = 16

    def __init__(self, W):
        self.columns, size = W.shape[1], W.shape[0] * W.shape[1]
        self.W = tf.pad(W, [[0, 0], [0, self.MORE]]) if size >= self.LARGE else W

    def times(self, h, blocks=1):
        """h W in `blocks` pieces of its last axis, a list."""
        y = ops.matmul(h, self.W)
        y = y if self.W.shape[1] == self.columns else y[..., : self.columns]
        return [y] if blocks == 1 else ops.split(y, blocks, axis=-1)


@dataclass
class Gradients:
    """Of one step; None where nothing arrives."""

    products: list
    scanned: list
    states: list
    fixed: list
    weights: list


class Factor(NamedTuple):
    """A product h W: which weight and columns, and where h of all steps is found."""

    product: int
    weight: int
    columns: tuple | None
    source: str  # "inputs" or "states" of what was kept, or "outputs", one step later
    index: int
    state: int


class Rebuilt:
    """A step rebuilt from the products that were kept, and its gradient."""

    def __init__(self, cell, steps, weights):
        self.cell, self.steps, self.weights = cell, steps, weights
        # Transposed once: `transpose_b=True` inside the loop costs nearly twice the time.
        prepared = steps.tried.prepared(lookup(cell, weights))
        self.transposed = [Matrix(tf.transpose(W)) for W in prepared]
        self._try()

    def _try(self):
        """Learn from one step on zeros what reaches what, and which gradients are the same."""
        scanned, fixed, states = self.steps.tried.zeros()
        scanned, stubs = [tf.identity(z) for z in scanned], []
        self.direct = [i for i, w in enumerate(self.weights) if is_float(w)]
        run, results = self.steps.unmasked, self.steps.tried.zero_results()
        d = self._pull(run, scanned, fixed, states, results, stubs=stubs)
        kept = {id(dy): k for k, dy in enumerate(d.products) if dy is not None}
        reached = [i for i, dz in enumerate(d.scanned) if dz is not None]
        self.same = {i: kept[id(d.scanned[i])] for i in reached if id(d.scanned[i]) in kept}
        self.own = [i for i in reached if i not in self.same]
        self.sums = {i: k for i, k in self.same.items() if _only_added(scanned[i], stubs[k])}
        self.direct = [i for i, g in enumerate(d.weights) if g is not None]
        self.summed = [("fixed", i) for i, g in enumerate(d.fixed) if g is not None]
        self.summed += [("weights", i) for i in self.direct]

    def results(self, scanned, kept):
        """y of every product: where z + y was kept in place of z, nothing is left for y."""
        sums = {k: i for i, k in self.sums.items()}
        count = len(self.steps.tried.result_zeros)
        return [tf.zeros_like(scanned[sums[k]]) if k in sums else next(kept) for k in range(count)]

    def gradients(self, scanned, states, results, upstream):
        """Gradients of one step of the loop, zeros where nothing arrives."""
        d = self._pull(self.steps, scanned, self.steps.fixed, states, results, upstream)
        pairs = zip(d.states, self.steps.states, strict=True)
        d.states = [_or_zeros(g, s) if is_float(s) else tf.zeros([]) for g, s in pairs]
        d.products = [_or_zeros(g, y) for g, y in zip(d.products, results, strict=True)]
        return d

    def _pull(self, run, scanned, fixed, states, results, upstream=None, stubs=None):
        """Run the step on stubs for its products and differentiate it."""
        fixed = [tf.identity(f) for f in fixed]
        weights = [tf.identity(w) if i in self.direct else w for i, w in enumerate(self.weights)]
        calls, count = iter(self.transposed), 0
        d_products = [None] * len(results)

        def linear(h, weight, columns=None, blocks=1):
            nonlocal count
            places = slice(count, count + blocks)
            count += blocks
            y = _stub(h, results[places], next(calls), d_products, places)
            if stubs is not None:
                stubs.extend(y)
            return y[0] if blocks == 1 else y

        with scope_of(self.cell, weights):
            new, own = run(scanned, fixed, states, linear)
        targets = new + own
        upstream = [tf.ones_like(t) for t in targets] if upstream is None else upstream
        pairs = [(t, d) for t, d in zip(targets, upstream, strict=True) if is_float(t)]
        groups = (scanned, states, fixed, [weights[i] for i in self.direct])
        sources = [x for group in groups for x in group if is_float(x)]
        found = iter(tf.gradients([t for t, _ in pairs], sources, [d for _, d in pairs]))
        d_scanned, d_states, d_fixed, d_direct = (
            [next(found) if is_float(x) else None for x in group] for group in groups
        )
        d_direct = dict(zip(self.direct, d_direct, strict=True))
        d_weights = [d_direct.get(i) for i in range(len(weights))]
        return Gradients(d_products, d_scanned, d_states, d_fixed, d_weights)

    def zero_sums(self):
        """Zeros for what is summed inside the loop, in float32 where the values are shorter."""
        sources = [(self.steps.fixed if g == "fixed" else self.weights)[i] for g, i in self.summed]
        return [tf.zeros_like(x, dtype=_wide(x.dtype)) for x in sources]

    def add(self, sums, d):
        """The sums with one step's gradients added."""
        found = [getattr(d, group)[i] for group, i in self.summed]
        return [
            s if g is None else s + tf.cast(g, s.dtype) for s, g in zip(sums, found, strict=True)
        ]

    def specs(self):
        """Of what the backward loop stacks: dy of every product, and each dz that is no dy."""
        leaves = [self.steps.scanned[i] for i in self.own]
        return self.steps.tried.result_specs() + [
            Spec(tuple(leaf.shape[1:]), leaf.dtype.name) for leaf in leaves
        ]

    def assemble(self, d_states, sums, ys):
        """([gradient of each leaf of (z, states, constants)], [of each weight], {Factor: dY})."""
        steps, d_products = self.steps, ys[: len(self.steps.tried.result_zeros)]
        d_scanned = dict(zip(self.own, ys[len(d_products) :], strict=True))
        d_scanned.update({i: d_products[k] for i, k in self.same.items()})
        sums = dict(zip(self.summed, sums, strict=True))
        d_fixed = {
            i: tf.cast(sums["fixed", i], f.dtype)
            for i, f in enumerate(steps.fixed)
            if ("fixed", i) in sums
        }
        d_weights = [sums.get(("weights", i)) for i in range(len(self.weights))]
        d_z, d_constants = steps.layout.spread(d_scanned, d_fixed)
        own = list(zip(d_states, steps.states, strict=True))[: steps.count]
        d_states = [d if is_float(s) else None for d, s in own]
        blocks = iter(d_products)
        d_products = [[next(blocks) for _ in range(p.blocks)] for p in steps.tried.products]
        factors = dict(zip(self._factors(), d_products, strict=True))
        return d_z + d_states + d_constants, d_weights, factors

    def _factors(self):
        """A `Factor` for each product."""
        weights = {id(v): i for i, v in enumerate(self.cell.variables)}
        inputs, emitted, found = 0, self.steps.emitted(), []
        for k, p in enumerate(self.steps.tried.products):
            source, index = "inputs", inputs
            if p.state is None:
                inputs += 1
            elif p.state in emitted:
                source, index = "outputs", self.steps.output_of(p.state)
            else:
                source, index = "states", p.state
            state = -1 if p.state is None else p.state
            found.append(Factor(k, weights[id(p.weight)], p.columns, source, index, state))
        return found


def _only_added(z, y):
    """Whether a step uses z and y in their sum only."""
    uses = {op for tensor in (z, y) for op in tensor.consumers()}
    return len(uses) == 1 and uses.pop().type in ("Add", "AddV2")


def _stub(h, y, transposed, d_products, places):
    """y in place of h W, in its blocks; what comes back, dy, is noted and goes on as dy Wᵀ."""

    @tf.custom_gradient
    def product(h):
        def gradient(*dy):
            d_products[places] = dy
            dy = dy[0] if len(dy) == 1 else ops.concatenate(dy, -1)
            return transposed.times(dy)[0]

        return [tf.identity(block) for block in y], gradient

    return product(h)


def weight_gradient(factor, h, dy, weight):
    """Hᵀ dY over all T B rows, in the place of the product's columns, as the weight's dtype."""
    h = tf.reshape(h, [-1, h.shape[-1]])
    blocks = [tf.matmul(h, tf.reshape(d, [-1, d.shape[-1]]), transpose_a=True) for d in dy]
    g = tf.cast(blocks[0] if len(blocks) == 1 else tf.concat(blocks, -1), weight.dtype)
    if factor.columns is None:
        return g
    start, stop = factor.columns
    return tf.pad(g, [[0, 0], [start, weight.shape[1] - stop]])


def _or_zeros(gradient, like):
    return tf.zeros_like(like) if gradient is None else gradient


def _wide(dtype):
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype
