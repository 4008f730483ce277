"""The loop over time that runs a step. Time comes first: [T, B, ...]."""

import keras
from keras import ops


def scan(body, xs, carry, specs, reverse=False, delayed=()):
    """Run `body(x_t, carry) -> (carry, ys)` over the first axis of every x in `xs`.

    Args:
        body: the step; x_t, carry and ys are lists of tensors.
        xs: tensors [T, ...].
        carry: tensors that keep their shapes.
        specs: a `Spec` for each y.
        reverse: run from T - 1 down to 0. The stacked ys are in the order of time all the same.
        delayed: pairs (first, x), on TensorFlow only. Behind the xs, step t reads x[t - 1] of each,
            and `first` at t = 0.

    Returns:
        The last carry, and each y stacked: [T, ...].
    """
    if keras.backend.backend() == "tensorflow":
        return _scan_tensorflow(body, xs, carry, specs, reverse, delayed)

    def step(carry, x_t):
        carry, ys = body(list(x_t), list(carry))
        return tuple(carry), tuple(ys)

    length = xs[0].shape[0]
    carry, ys = ops.scan(step, tuple(carry), tuple(xs), length=length, reverse=reverse)
    return list(carry), list(ys)


def _scan_tensorflow(body, xs, carry, specs, reverse, delayed):
    """`scan` as one `tf.while_loop` over TensorArrays."""
    import tensorflow as tf

    T = xs[0].shape[0]
    if T == 0:  # XLA cannot trace a step that reads from nothing
        return carry, [tf.zeros((0, tf.shape(xs[0])[1], *s.shape[1:]), s.dtype) for s in specs]
    T = tf.shape(xs[0])[0] if T is None else T

    # Kept after a read: step 0 and step 1 both read x[0] of a delayed x.
    arrays = [
        tf.TensorArray(x.dtype, T, element_shape=x.shape[1:], clear_after_read=False).unstack(x)
        for x in (*xs, *(x for _, x in delayed))
    ]
    reads, delayed = arrays[: len(xs)], list(zip(delayed, arrays[len(xs) :], strict=True))
    writes = tuple(tf.TensorArray(s.dtype, size=T, element_shape=s.shape) for s in specs)

    def step(t, carry, writes):
        x_t = [x.read(t) for x in reads]
        # At t = 0 the value read is dropped, but its index has to be a valid one.
        x_t += [tf.where(t > 0, x.read(tf.maximum(t - 1, 0)), first) for (first, _), x in delayed]
        new_carry, ys = body(x_t, list(carry))
        for old, new in zip(carry, new_carry, strict=True):
            new.set_shape(old.shape)  # `tf.while_loop` refuses a less exact static shape
        new_writes = tuple(w.write(t, y) for w, y in zip(writes, ys, strict=True))
        return t - 1 if reverse else t + 1, tuple(new_carry), new_writes

    start = tf.constant(T - 1 if reverse else 0) if isinstance(T, int) else (T - 1) * int(reverse)
    _, carry, writes = tf.while_loop(
        (lambda t, *_: t >= 0) if reverse else (lambda t, *_: t < T),
        step,
        (start, tuple(carry), writes),
        maximum_iterations=T,
        parallel_iterations=32,
    )
    return list(carry), [w.stack() for w in writes]
