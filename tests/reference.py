"""NumPy loops written from the papers: the reference that the cells are held to.

Each `…_step(x, state, w)` is one step for x [B, D]; w maps a weight's name to its value.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def unroll(step, x, state, weights, mask=None):
    """Outputs [B, T, ...] and final state of a step run over x [B, T, D].

    Where mask [B, T] is False the state is kept and the output repeats (zeros at first).
    """
    outputs, output = [], None
    for t in range(x.shape[1]):
        new_output, new = step(x[:, t], state, weights)
        output = np.zeros_like(new_output) if output is None else output
        keep = np.ones(len(x), bool) if mask is None else mask[:, t]
        output = np.where(keep[:, None], new_output, output)
        state = tuple(np.where(keep[:, None], n, s) for n, s in zip(new, state, strict=True))
        outputs.append(output)
    return np.stack(outputs, axis=1), state


def simple_rnn_step(x, state, w):
    """Goodfellow et al. 2016, equations 10.8 and 10.9."""
    (h,) = state
    h = np.tanh(w["bias"] + h @ w["recurrent_kernel"] + x @ w["kernel"])
    return h, (h,)


def lstm_step(x, state, w):
    """Gers et al. 2000; blocks i, f, g, o."""
    h, c = state
    W = np.split(w["kernel"], 4, axis=1)
    U = np.split(w["recurrent_kernel"], 4, axis=1)
    b = np.split(w["bias"], 4)
    i = sigmoid(x @ W[0] + h @ U[0] + b[0])
    f = sigmoid(x @ W[1] + h @ U[1] + b[1])
    g = np.tanh(x @ W[2] + h @ U[2] + b[2])
    o = sigmoid(x @ W[3] + h @ U[3] + b[3])
    c = f * c + i * g
    h = o * np.tanh(c)
    return h, (h, c)


def gru_step(x, state, w):
    """Cho et al. 2014, the reset gate after the product (cuDNN); blocks z, r, g."""
    (h,) = state
    W = np.split(w["kernel"], 3, axis=1)
    U = np.split(w["recurrent_kernel"], 3, axis=1)
    b, b_u = (np.split(row, 3) for row in w["bias"])
    z = sigmoid(x @ W[0] + b[0] + h @ U[0] + b_u[0])
    r = sigmoid(x @ W[1] + b[1] + h @ U[1] + b_u[1])
    g = np.tanh(x @ W[2] + b[2] + r * (h @ U[2] + b_u[2]))
    h = z * h + (1 - z) * g
    return h, (h,)


def gru_before_step(x, state, w):
    """Cho et al. 2014, equations 5 to 8, the reset gate before the product."""
    (h,) = state
    W = np.split(w["kernel"], 3, axis=1)
    U = np.split(w["recurrent_kernel"], 3, axis=1)
    b = np.split(w["bias"], 3)
    z = sigmoid(x @ W[0] + b[0] + h @ U[0])
    r = sigmoid(x @ W[1] + b[1] + h @ U[1])
    g = np.tanh(x @ W[2] + b[2] + (r * h) @ U[2])
    h = z * h + (1 - z) * g
    return h, (h,)
