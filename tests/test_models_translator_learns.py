"""A translator learns to copy, reverse and sort short sequences, all of those held out."""

import keras
import numpy as np
import pytest

from kerasrnn.decoding.beam import BeamRules
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.encoders import BidirectionalEncoder
from kerasrnn.models.translator import Translator
from kerasrnn.text.tokenizers import END, START, CharTokenizer

LETTERS = "abcdefghijkl"
LONGEST = 8


def sequences(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    lengths = random.integers(2, LONGEST + 1, count)
    return ["".join(random.choice(list(LETTERS), n)) for n in lengths]


def padded(tokenizer, texts) -> np.ndarray:
    """Ids [N, LONGEST], all of one shape so that XLA compiles once."""
    ids = tokenizer.tokenize(texts).to_tensor(shape=[None, LONGEST]).numpy()
    return np.pad(ids, [[0, 0], [0, 1]])


def ended(ids) -> np.ndarray:
    ids = ids.copy()
    ids[np.arange(len(ids)), (ids != 0).sum(axis=1)] = END
    return ids


def exact(transform, epochs: int) -> float:
    """The share of 500 sequences not seen that are transformed without a fault."""
    tokenizer = CharTokenizer(list(LETTERS))
    encoder = BidirectionalEncoder(tokenizer.size, embedding=32, units=64)
    decoder = Decoder(tokenizer.size, embedding=32, units=64, readout="maxout")
    model = Translator(tokenizer, tokenizer, encoder, decoder)
    steps = epochs * 6400 // 64
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.02)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0))
    held_out = sequences(500, seed=1)
    texts = [text for text in sequences(6500, seed=0) if text not in set(held_out)][:6400]
    source, target = (padded(tokenizer, t) for t in (texts, [transform(t) for t in texts]))
    target_in = np.roll(target, 1, axis=1)
    target_in[:, 0] = START
    model.fit((ended(source), target_in), ended(target), batch_size=64, epochs=epochs, verbose=0)
    rules = BeamRules(beam=1, banned=model.banned_ids)
    found = model.translate(held_out, rules=rules, max_length=LONGEST + 2)
    return np.mean([f == transform(t) for f, t in zip(found, held_out, strict=True)])


@pytest.mark.slow
def test_copies():
    assert exact(lambda text: text, epochs=5) == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "transform",
    [lambda text: text[::-1], lambda text: "".join(sorted(text))],
    ids=["reverse", "sort"],
)
def test_reverses_and_sorts(transform):
    assert exact(transform, epochs=20) == 1.0
