"""The base class of recurrent cells: weights, and the equations in two functions.

B batch, T time, D input, H units.
"""

import inspect

import keras
from keras import ops, tree


def matmul(h, weight, columns=None, blocks=1):
    """The product h W of h [B, H] with a weight: the plain `linear` of a step.

    `columns=(start, stop)` takes only those columns of W. With `blocks=n` above 1 the result is a
    list of n equal pieces of its last axis.
    """
    if columns is not None:
        weight = weight[:, columns[0] : columns[1]]
    y = ops.matmul(h, weight)
    return y if blocks == 1 else ops.split(y, blocks, axis=-1)


class Cell(keras.layers.Layer):
    """A recurrent cell written as its equations, without a gradient and without a loop.

    A subclass sets `state_size` and `output_size` (an int, or a nested tuple of them for
    several tensors) and defines two functions:

    - `project(x, training=None) -> z`: the part that does not depend on the state, for all time
      steps at once. `x` is [T, B, D] (time first), or [B, D] for a single step, so `project` may
      mix values of the last axis only. `z` is a tensor or a nested tuple. A leaf whose time axis
      is 1 is shared by all steps. Draw random numbers here.
    - `step(z, state, linear, *constants) -> (output, new_state)`: the part that depends on the
      state, for one step. z is [B, ...]; state has the structure of `state_size`. `linear(h,
      weight, columns=None, blocks=1)` is the product of h with a weight of the cell, see
      `matmul`. The engine traces a step more than once. If it is not a pure function (it draws a
      random number, assigns a variable or prints), the plain loop runs it, and `plan` says so.

    A gate is fastest with a separate leaf of z and a separate block of `linear`. Then no
    elementwise operation reads two slices of one tensor, which XLA does not vectorize.

    Every cell also works in `keras.layers.RNN`, which then calls `project` step by step.

    >>> class Leaky(Cell):  # h(t) = a h(t-1) + x(t)
    ...     state_size = output_size = 3
    ...     def project(self, x, training=None):
    ...         return x
    ...     def step(self, z, h, linear):
    ...         h = 0.5 * h + z
    ...         return h, h
    >>> keras.layers.RNN(Leaky())(ops.ones((2, 4, 3))).shape
    TensorShape([2, 3])
    """

    state_size = None
    output_size = None
    starts_at_zero = True  # False where `initial_state` is anything else
    cudnn = None  # "lstm" or "gru" where the cell is exactly cuDNN's

    def project(self, x, training=None):
        """z of all steps from x [T, B, D], or of one step from x [B, D]."""
        raise NotImplementedError(f"{type(self).__name__} must define project(x, training=None).")

    def step(self, z, state, linear, *constants):
        """One step: (output, new_state)."""
        raise NotImplementedError(f"{type(self).__name__} must define step(z, state, linear).")

    def with_input(self, z, add):
        """z of one step with a further input added, such as the context of attention.

        `add(leaf) -> leaf` adds the product of that input to one leaf. It is called once for each
        leaf of z, in order. A wrapper calls it only for the leaves of the cell inside.
        """
        return tree.map_structure(add, z)

    def call(self, inputs, states, training=None):
        """One step for `keras.layers.RNN`: inputs [B, D], states as the list that it keeps.

        Raises:
            ValueError: when the cell needs constants.
        """
        if self.constant_names():
            raise ValueError(
                f"{type(self).__name__} needs constants {self.constant_names()}, which "
                "keras.layers.RNN does not hand over; run it with kerasrnn.layers.Recurrent."
            )
        state = tree.pack_sequence_as(self.state_size, tree.flatten(states))
        output, new_state = self.step(self.project(inputs, training=training), state, matmul)
        return output, (tree.flatten(new_state) if tree.is_nested(states) else new_state)

    def check_step(self):
        """Raise ValueError when `step` takes other arguments than the engine passes."""
        parameters = list(inspect.signature(self.step).parameters.values())
        names = [p.name for p in parameters]
        takes_any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if "linear" in names[3:] or (len(names) < 3 and not takes_any_number):
            raise ValueError(
                f"{type(self).__name__}.step: expected step(z, state, linear, *constants), "
                f"received step({', '.join(names)}); several states come as one tuple: "
                "h, c = state."
            )

    def constant_names(self):
        """The names of the constants that `step` requires; `*constants` requires none."""
        parameters = list(inspect.signature(self.step).parameters.values())[3:]
        return [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]

    def pack_constants(self, constants):
        """The constants as a tuple in the form that `step` takes.

        A functional Keras model turns a named tuple into a list; a cell that takes one restores it.
        """
        return constants

    def initial_state(self, batch_size):
        """The state before the first step: zeros [batch_size, size], nested like `state_size`."""
        return tree.map_structure(
            lambda size: ops.zeros((batch_size, size), dtype=self.compute_dtype), self.state_size
        )

    def get_initial_state(self, batch_size):
        """The initial state as a flat list, for `keras.layers.RNN`."""
        return tree.flatten(self.initial_state(batch_size))

    def compute_output_spec(self, inputs, states, training=None):
        batch = inputs.shape[0]

        def spec(size):
            return keras.KerasTensor((batch, size), dtype=self.compute_dtype)

        output = tree.map_structure(spec, self.output_size)
        return output, [spec(size) for size in tree.flatten(self.state_size)]


class Gated(Cell):
    """A cell of H units with G blocks of columns in Keras's own weights.

    kernel [D, G H], recurrent_kernel [H, G H], bias [G H]. LSTM, GRU and SimpleRNN derive from it.

    Raises:
        ValueError: if `units` is not a positive integer.
    """

    blocks = 1

    def __init__(
        self,
        units,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        **kwargs,
    ):
        if not isinstance(units, int) or units < 1:
            raise ValueError(
                f"{type(self).__name__}(units): expected a positive integer, received {units!r}; "
                "pass the number of hidden units."
            )
        super().__init__(**kwargs)
        self.units = units
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.output_size = units
        self.state_size = units

    def build(self, input_shape):
        width = self.blocks * self.units
        self.kernel = self.add_weight(
            (input_shape[-1], width), name="kernel", initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            (self.units, width), name="recurrent_kernel", initializer=self.recurrent_initializer
        )
        self.bias = self.add_bias() if self.use_bias else None

    def add_bias(self):
        """Make the bias of all blocks, [G H]."""
        return self.add_weight(
            (self.blocks * self.units,), name="bias", initializer=self.bias_initializer
        )

    def project(self, x, training=None):
        z = self.blocks_of(x)
        if self.bias is not None:
            biases = ops.split(self.bias, self.blocks)
            z = tuple(block + b for block, b in zip(z, biases, strict=True))
        return z if self.blocks > 1 else z[0]

    def blocks_of(self, x):
        """x W as a tuple of G blocks [..., H]."""
        kernels = ops.split(self.kernel, self.blocks, axis=-1)
        # `tensordot` makes one product over all rows. `ops.matmul` of Keras 3.12 makes one for each
        # step, and ONNX Runtime crashes on these in half precision.
        if len(x.shape) > 2:
            return tuple(ops.tensordot(x, kernel, axes=1) for kernel in kernels)
        return tuple(ops.matmul(x, kernel) for kernel in kernels)

    def has_cudnn_gates(self):
        """Whether the cell has a bias and the activations that cuDNN's kernels have built in."""
        activations = (self.activation, self.recurrent_activation)
        built_in = (keras.activations.tanh, keras.activations.sigmoid)
        return self.use_bias and activations == built_in

    def get_config(self):
        config = {
            "units": self.units,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
        return {**super().get_config(), **config}
