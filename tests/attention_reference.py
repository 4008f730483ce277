"""Attention in NumPy, written from the papers.

B batch, S source time, Q query, A keys, D values. `w` maps a weight's name to its value.
"""

import numpy as np


def weights_of(scores, mask):
    """exp(e_s) / Σ exp(e_s') over the real positions of each row; 0 elsewhere."""
    weights = np.zeros(scores.shape)
    for b, real in enumerate(mask):
        if real.any():
            e = np.exp(scores[b, real] - scores[b, real].max())
            weights[b, real] = e / e.sum()
    return weights


def additive(q, m, w):
    """Bahdanau et al. 2014, appendix A.1.2: vᵀ tanh(W_a s + U_a h_j)."""
    rows = [
        [np.tanh(q[b] @ w["query_kernel"] + h @ w["key_kernel"]) @ w["energy"] for h in m[b]]
        for b in range(len(q))
    ]
    return np.array(rows)


def dot(q, m, w):
    """Luong et al. 2015, section 3.1, "dot"."""
    return np.einsum("bd,bsd->bs", q, m)


def scaled_dot(q, m, w):
    """Vaswani et al. 2017, equation 1."""
    return dot(q, m, w) / np.sqrt(q.shape[1])


def bilinear(q, m, w):
    """Luong et al. 2015, section 3.1, "general": h_tᵀ W_a h_s."""
    return np.einsum("bq,dq,bsd->bs", q, w["kernel"], m)


def read(score, q, m, mask, w):
    """(context [B, D], weights [B, S]) of queries [B, Q] to a memory [B, S, D]."""
    weights = weights_of(score(q, m, w), mask)
    return np.einsum("bs,bsd->bd", weights, m), weights


def bahdanau_step(inner, score, m, mask):
    """Bahdanau et al. 2014, section 3.1: the context of s(t-1) stands beside x(t)."""

    def step(x, state, w):
        context, weights = read(score, state[0], m, mask, w)
        kernel = np.concatenate([w["kernel"], w["context_kernel"]])
        x = np.concatenate([x, context], axis=1)
        y, state = inner(x, state, {**w, "kernel": kernel})
        return np.concatenate([y, context, weights], axis=1), state

    return step


def luong_step(inner, score, m, mask, feeding):
    """Luong et al. 2015, equation 5 and section 3.3: ã = tanh(W_c [h; c]), fed back beside x."""

    def step(x, state, w):
        *own, a = state if feeding else (*state, None)
        if feeding:
            w = {**w, "kernel": np.concatenate([w["kernel"], w["context_kernel"]])}
            x = np.concatenate([x, a], axis=1)
        y, own = inner(x, tuple(own), w)
        context, weights = read(score, y, m, mask, w)
        a = np.tanh(np.concatenate([y, context], axis=1) @ w["output_kernel"])
        return np.concatenate([a, context, weights], axis=1), (*own, a) if feeding else own

    return step
