"""Beam search as one would write it on paper: Python lists, float64, one sentence at a time.

An `Automaton` is a random step function: logits [M, V], attention [M, S] and the next state
[M, V] are tables over M states, which NumPy and TensorFlow read alike.
"""

import itertools

import numpy as np
import tensorflow as tf

from kerasrnn.decoding.sampling import END


class Automaton:
    """Tables of random numbers; called on ids [R] and states int32 [R] it is a step function."""

    def __init__(self, seed, V=9, M=23, S=4, spread=2.0, end=0.5):
        random = np.random.default_rng(seed)
        self.logits = (spread * random.normal(size=(M, V))).astype("float32")
        self.logits[:, END] += end
        attention = np.exp(2 * random.normal(size=(M, S)))
        self.attention = (attention / attention.sum(1, keepdims=True)).astype("float32")
        self.next = random.integers(0, M, size=(M, V)).astype("int32")

    def __call__(self, ids, state):
        state = tf.gather_nd(self.next, tf.stack([state, ids], axis=1))
        return tf.gather(self.logits, state), state, tf.gather(self.attention, state)

    def silent(self, ids, state):
        """The step function without attention."""
        return self(ids, state)[:2]

    def log_p(self, state, banned) -> np.ndarray:
        """log p [V] in a state, banned ids left out."""
        logits = self.logits[state].astype("float64")
        logits[list(banned)] = -np.inf
        return logits - np.log(np.exp(logits).sum())


def score(log_p, n, attention, rules, mask=None) -> float:
    """Wu et al. 2016, equation 14, of log p, n ids (the end among them) and attention [n, S]."""
    value = log_p / ((5 + n) / 6) ** rules.length_penalty
    if rules.coverage_penalty:
        nats = np.log(np.clip(np.sum(attention, axis=0), 1e-10, 1))
        value += rules.coverage_penalty * nats[slice(None) if mask is None else mask].sum()
    return value


def repeats(ids, candidate, n) -> bool:
    """Whether `candidate` after `ids` closes n ids that stand there already."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return n > 0 and tuple([*ids, candidate][-n:]) in grams


def search(automaton, first, state, length, rules, prefix=(), mask=None) -> list[tuple]:
    """The N best of one sentence, [(ids, score, attention [len(ids), S])]; no early stop."""
    # ids, the end among them; log p; score; state; attention; finished
    beam = [((), 0.0, 0.0, state, (), length <= 0)]
    for t in range(length):
        found = []
        for k, (ids, log_p, value, state, attention, finished) in enumerate(beam):
            if finished:
                found.append((-value, k, 0, beam[k]))
                continue
            state = automaton.next[state, ids[-1] if ids else first]
            nats = automaton.log_p(state, rules.banned)
            seen = (*attention, automaton.attention[state])
            for i, gain in enumerate(nats):
                if t < len(prefix) and prefix[t]:
                    if i != prefix[t]:
                        continue
                    gain = 0.0 if gain == -np.inf else gain
                elif repeats(ids, i, rules.no_repeat_ngram) or (i == END and t < rules.min_length):
                    continue
                if gain == -np.inf:
                    continue
                new = score(log_p + gain, t + 1, seen, rules, mask)
                over = i == END or t + 1 >= length
                found.append((-new, k, i, ((*ids, i), log_p + gain, new, state, seen, over)))
        beam = [entry for *_, entry in sorted(found, key=lambda f: f[:3])[: rules.beam]]
    best = []
    for ids, _, value, _, attention, _ in beam[: rules.n_best]:
        n = ids.index(END) if END in ids else len(ids)
        best.append(
            (ids[:n], value, np.array(attention[:n]).reshape(n, automaton.attention.shape[1]))
        )
    return best


def every(automaton, first, state, length, rules) -> list[tuple]:
    """All sequences there are, best first: [(score, ids)]; those of full length need no end."""
    letters = [i for i in range(automaton.logits.shape[1]) if i != END and i not in rules.banned]
    found = []
    for n in range(length + 1):
        for ids in itertools.product(letters, repeat=n):
            path = ids if n == length else (*ids, END)
            now, log_p, attention = state, 0.0, []
            for before, i in zip((first, *path), path, strict=False):
                now = automaton.next[now, before]
                log_p += automaton.log_p(now, rules.banned)[i]
                attention.append(automaton.attention[now])
            found.append((score(log_p, len(path), attention, rules), ids))
    return sorted(found, reverse=True)
