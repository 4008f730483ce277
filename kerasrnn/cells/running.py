"""Classical recurrences without gates: sum, product, maximum, average, autoregression.

B batch, D features. `units` is D, and state and output have that size. Features do not mix.
"""

import keras
import numpy as np
from keras import ops

from kerasrnn.cells.base import Cell


class Running(Cell):
    """The base class of recurrences that treat every feature separately.

    Raises:
        ValueError: if `units` is not a positive integer; at `build`, if it is not D.
    """

    start = 0.0  # s(0)

    def __init__(self, units, **kwargs):
        if not isinstance(units, int) or units < 1:
            raise ValueError(
                f"{type(self).__name__}(units): expected a positive integer, received {units!r}; "
                "pass the number of input features."
            )
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units
        self.starts_at_zero = self.start == 0

    def build(self, input_shape):
        if input_shape[-1] != self.units:
            raise ValueError(
                f"{type(self).__name__}({self.units}): expected inputs with {self.units} "
                f"features, received {input_shape[-1]}; pass their number as units."
            )

    def initial_state(self, batch_size):
        return ops.full((batch_size, self.units), self.start, dtype=self.compute_dtype)

    def project(self, x, training=None):
        return x

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="kerasrnn")
class RunningSum(Running):
    """s(t) = s(t-1) + x(t), s(0) = 0: y_t = Σ x_τ.

    >>> from kerasrnn.layers import Recurrent
    >>> Recurrent(RunningSum(1), return_sequences=True)(ops.reshape([1., 2., 4.], (1, 3, 1)))[0, 2]
    <tf.Tensor: shape=(1,), dtype=float32, numpy=array([7.], dtype=float32)>
    """

    def step(self, z, s, linear):
        s = s + z
        return s, s


@keras.saving.register_keras_serializable(package="kerasrnn")
class RunningProduct(Running):
    """s(t) = s(t-1) x(t), s(0) = 1: y_t = Π x_τ."""

    start = 1.0

    def step(self, z, s, linear):
        s = s * z
        return s, s


@keras.saving.register_keras_serializable(package="kerasrnn")
class RunningMaximum(Running):
    """s(t) = max(s(t-1), x(t)), s(0) = -∞: the largest value so far."""

    start = -np.inf

    def step(self, z, s, linear):
        s = ops.maximum(s, z)
        return s, s


@keras.saving.register_keras_serializable(package="kerasrnn")
class ExponentialAverage(Running):
    """s(t) = α s(t-1) + (1 - α) x(t), s(0) = 0, one α in (0, 1) for each feature.

    Brown 1956 (exponential smoothing); the leaky unit of Jaeger et al. 2007.

    Args:
        units: the number of features.
        decay: the first value of α, which stays if α is not learned.
        learned: whether α is trained. It is kept as the weight logit [D], α = σ(logit).
    """

    def __init__(self, units, decay=0.9, learned=False, **kwargs):
        if not 0 < decay < 1:
            raise ValueError(
                f"decay: expected a number in (0, 1), received {decay!r}; near 1 forgets slowly."
            )
        super().__init__(units, **kwargs)
        self.decay, self.learned = decay, learned

    def build(self, input_shape):
        super().build(input_shape)
        logit = float(np.log(self.decay / (1 - self.decay)))
        self.logit = self.add_weight(
            (self.units,),
            name="logit",
            initializer=keras.initializers.Constant(logit),
            trainable=self.learned,
        )

    def step(self, z, s, linear):
        α = ops.sigmoid(self.logit)
        s = α * s + (1 - α) * z
        return s, s

    def get_config(self):
        return {**super().get_config(), "decay": self.decay, "learned": self.learned}


@keras.saving.register_keras_serializable(package="kerasrnn")
class Autoregressive(Running):
    """y(t) = Σ_w a_w y(t-w) + x(t) for w = 1 … W; the state is (y(t-1), …, y(t-W)).

    Yule 1927. coefficients a [W, D].

    Args:
        units: the number of features.
        coefficients: the first values of a_1 … a_W, the same for all features.
        learned: whether the coefficients are trained; otherwise they stay.
    """

    def __init__(self, units, coefficients=(0.5, 0.25), learned=False, **kwargs):
        if len(coefficients) < 1:
            raise ValueError(
                "coefficients: expected at least one, a_1, received none; the order W is their "
                "number."
            )
        super().__init__(units, **kwargs)
        self.initial_coefficients = tuple(float(a) for a in coefficients)
        self.learned = learned
        self.state_size = (units,) * len(self.initial_coefficients)

    def initial_state(self, batch_size):
        return Cell.initial_state(self, batch_size)

    def build(self, input_shape):
        super().build(input_shape)
        a = np.repeat(np.array(self.initial_coefficients)[:, None], self.units, axis=1)
        self.coefficients = self.add_weight(
            a.shape,
            name="coefficients",
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(a, dtype=dtype),
            trainable=self.learned,
        )

    def step(self, z, past, linear):
        a = ops.unstack(self.coefficients, axis=0)
        y = z
        for a_w, y_w in zip(a, past, strict=True):
            y = y + a_w * y_w
        return y, (y, *past[:-1])

    def get_config(self):
        config = {"coefficients": list(self.initial_coefficients), "learned": self.learned}
        return {**super().get_config(), **config}
