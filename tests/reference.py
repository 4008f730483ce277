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


def gru_replacing_step(x, state, w):
    """Chung et al. 2014: the update gate is the share of the new value."""
    (h,) = state
    z = sigmoid(
        np.split(x @ w["kernel"] + w["bias"][0] + h @ w["recurrent_kernel"] + w["bias"][1], 3, 1)[0]
    )
    g = (gru_step(x, state, w)[0] - z * h) / (1 - z)
    h = (1 - z) * h + z * g
    return h, (h,)


def jordan_step(x, state, w):
    """Jordan 1986: the feedback is the output."""
    (y,) = state
    h = np.tanh(x @ w["kernel"] + y @ w["recurrent_kernel"] + w["bias"])
    y = sigmoid(h @ w["output_kernel"] + w["output_bias"])
    return y, (y,)


def greff_step(gates, coupled=False, squash_input=True, squash_output=True, recurrence=False):
    """Greff et al. 2015, section 2 and the variants of section 3, gates in the weights' order."""

    def step(x, state, w):
        h, c, *before = state
        n = len(gates)
        blocks = zip(
            np.split(w["kernel"], n, 1),
            np.split(w["recurrent_kernel"], n, 1),
            np.split(w["bias"], n),
            strict=True,
        )
        a = {g: x @ W + h @ U + b for g, (W, U, b) in zip(gates, blocks, strict=True)}
        if recurrence:
            R = np.split(w["gate_kernel"], 3, axis=0)
            for j, gate in enumerate("ifo"):
                for previous, rows in zip(before, R, strict=True):
                    a[gate] = a[gate] + previous @ np.split(rows, 3, axis=1)[j]

        def gate(name, c):
            return sigmoid(a[name] + w[f"peephole_{name}"] * c) if name in gates else 1.0

        i = gate("i", c)
        f = 1 - i if coupled else gate("f", c)
        c = f * c + i * (np.tanh(a["g"]) if squash_input else a["g"])
        o = gate("o", c)
        h = o * (np.tanh(c) if squash_output else c)
        return h, (h, c, i, f, o) if recurrence else (h, c)

    return step


def coupled_step(x, state, w):
    """One gate for writing and forgetting, no peepholes; blocks i, g, o."""
    w = {**w, **{f"peephole_{g}": 0.0 for g in "io"}}
    return greff_step("igo", coupled=True)(x, state, w)


def layer_norm_lstm_step(x, state, w):
    """Ba et al. 2016, equations 20 to 22."""
    h, c = state

    def norm(a, name):
        mean, variance = a.mean(1, keepdims=True), a.var(1, keepdims=True)
        return w[f"gain_{name}"] * (a - mean) / np.sqrt(variance + 1e-5) + w[f"shift_{name}"]

    a = norm(h @ w["recurrent_kernel"], "h") + norm(x @ w["kernel"], "x") + w["bias"]
    i, f, g, o = np.split(a, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(norm(c, "c"))
    return h, (h, c)


def mut1_step(x, state, w):
    """Jozefowicz et al. 2015, MUT1."""
    (h,) = state
    W_z, W_r = np.split(w["kernel"], 2, 1)
    U_r, U_g = np.split(w["recurrent_kernel"], 2, 1)
    b_z, b_r, b_g = np.split(w["bias"], 3)
    z = sigmoid(x @ W_z + b_z)
    r = sigmoid(x @ W_r + h @ U_r + b_r)
    h = np.tanh((r * h) @ U_g + np.tanh(x) + b_g) * z + h * (1 - z)
    return h, (h,)


def mut2_step(x, state, w):
    """Jozefowicz et al. 2015, MUT2."""
    (h,) = state
    W_z, W_g = np.split(w["kernel"], 2, 1)
    U_z, U_r, U_g = np.split(w["recurrent_kernel"], 3, 1)
    b_z, b_r, b_g = np.split(w["bias"], 3)
    z = sigmoid(x @ W_z + h @ U_z + b_z)
    r = sigmoid(x + h @ U_r + b_r)
    h = np.tanh((r * h) @ U_g + x @ W_g + b_g) * z + h * (1 - z)
    return h, (h,)


def mut3_step(x, state, w):
    """Jozefowicz et al. 2015, MUT3."""
    (h,) = state
    W_z, W_r, W_g = np.split(w["kernel"], 3, 1)
    U_z, U_r, U_g = np.split(w["recurrent_kernel"], 3, 1)
    b_z, b_r, b_g = np.split(w["bias"], 3)
    z = sigmoid(x @ W_z + np.tanh(h) @ U_z + b_z)
    r = sigmoid(x @ W_r + h @ U_r + b_r)
    h = np.tanh((r * h) @ U_g + x @ W_g + b_g) * z + h * (1 - z)
    return h, (h,)


def highway_step(x, state, w):
    """Zilly et al. 2017, depth 2, carry gate 1 - t."""
    (s,) = state
    for layer in (1, 2):
        a = s @ w[f"recurrent_kernel_{layer}"] + w[f"bias_{layer}"]
        a = a + x @ w["kernel"] if layer == 1 else a
        g, t = np.split(a, 2, axis=1)
        s = np.tanh(g) * sigmoid(t) + s * (1 - sigmoid(t))
    return s, (s,)


def running_step(combine):
    """y(t) = combine(y(t-1), x(t))."""

    def step(x, state, w):
        s = combine(state[0], x)
        return s, (s,)

    return step


def exponential_average_step(x, state, w):
    """Brown 1956, α = σ(logit)."""
    α = sigmoid(w["logit"])
    s = α * state[0] + (1 - α) * x
    return s, (s,)


def autoregressive_step(x, state, w):
    """y(t) = Σ a_w y(t-w) + x(t)."""
    y = x + sum(a * past for a, past in zip(w["coefficients"], state, strict=True))
    return y, (y, *state[:-1])
