"""Step functions whose right answer is a readable word."""

import numpy as np
import tensorflow as tf

from kerasrnn.decoding.sampling import END

LETTERS = "\0?^$ acdeilnoprstwy"  # pad, unknown, start, end, then letters
V = len(LETTERS)


def spell(ids) -> list[str]:
    return ["".join(LETTERS[i] for i in row).rstrip("\0") for row in np.asarray(ids)]


def words(*texts, sharp=50.0):
    """A step function that spells a word for each row, whatever it is fed; the end id after it."""
    longest = max(map(len, texts)) + 1
    table = [[LETTERS.index(c) for c in t.ljust(longest, "$")] for t in texts]
    table = tf.constant(table)

    def step(ids, state):
        place, fed = state
        spoken = tf.gather(table, tf.minimum(place, longest - 1), axis=1, batch_dims=1)
        return sharp * tf.one_hot(spoken, V), (place + 1, tf.concat([fed[:, 1:], ids[:, None]], 1))

    rows = len(texts)
    return step, tf.fill([rows], 2), (tf.zeros([rows], tf.int32), tf.zeros([rows, 8], tf.int32))


def noisy(ids, state):
    """Logits that depend on the id and on a state that remembers all before."""
    state = tf.math.floormod(state * 31 + ids, 1009)
    columns = tf.range(V, dtype=tf.int32)[tf.newaxis]
    phase = tf.cast(tf.math.floormod(state[:, tf.newaxis] * (columns + 3), 101), tf.float32)
    return 2.5 * tf.sin(phase) - 2.0 * tf.one_hot(END, V), state


class Lexicon:
    """A step function that spells words, each as often as it is said; attention on the place.

    p of a letter is that of all words that go on with it; what is no word has none.
    """

    def __init__(self, said: dict[str, float]):
        self.nodes = sorted({w[:n] for w in said for n in range(len(w) + 1)})
        p = np.zeros([len(self.nodes) + 1, V])
        self.next = np.full(p.shape, len(self.nodes), np.int32)
        for node, start in enumerate(self.nodes):
            for word, share in said.items():
                if word.startswith(start):
                    letter = LETTERS.index((word + "$")[len(start)])
                    p[node, letter] += share
                    if word != start:
                        place = self.nodes.index(word[: len(start) + 1])
                        self.next[node, letter] = place
        p[-1, END] = 1
        with np.errstate(divide="ignore"):
            self.logits = np.log(p / p.sum(1, keepdims=True)).astype("float32")

    def __call__(self, ids, state):
        node, place = state
        moved = tf.gather_nd(self.next, tf.stack([node, ids], axis=1))
        node = tf.where(place == 0, node, moved)
        attention = tf.one_hot(place, 9, 0.8, 0.1)
        return tf.gather(self.logits, node), (node, place + 1), attention

    def begin(self, rows=1):
        """The first ids [B] and the state at the beginning of every word."""
        return tf.fill([rows], 2), (tf.zeros([rows], tf.int32), tf.zeros([rows], tf.int32))
