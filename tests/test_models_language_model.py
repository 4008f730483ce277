"""The language model: shapes, state, generation, saving. B batch, T time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrnn.base.errors import InputError
from kerasrnn.cells import CELLS
from kerasrnn.models.language_model import LanguageModel
from kerasrnn.pipelines.text import IdStream, contiguous
from kerasrnn.text.tokenizers import CharTokenizer, WordTokenizer
from tests.id_files import stream_of

LETTERS = CharTokenizer(list("abcdefgh "))


def make(cell="gru", **options) -> LanguageModel:
    return LanguageModel(
        LETTERS, **{"cell": cell, "units": 12, "layers": 2, "embedding": 6, **options}
    )


def stream(tmp_path, ids) -> IdStream:
    return stream_of(tmp_path / "ids", ids)


def counting(n: int) -> list[int]:
    """4 5 6 7 4 5 6 7 …: what follows is certain."""
    return [4 + i % 4 for i in range(n)]


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
def test_windows_with_state_equal_one_long_pass(cell):
    model = make(cell)
    ids = tf.constant(np.random.default_rng(0).integers(4, 13, (3, 20)), tf.int32)
    whole, _ = model.forward(ids)
    state, parts = None, []
    for begin in range(0, 20, 5):
        logits, state = model.forward(ids[:, begin : begin + 5], state)
        parts.append(logits)
    np.testing.assert_allclose(tf.concat(parts, 1), whole, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "simple_rnn"])
@pytest.mark.parametrize("options", [{}, {"embedding": "one-hot"}, {"embedding": 12, "tied": True}])
def test_a_step_equals_the_sequence(cell, options):
    model = make(cell, **options)
    ids = tf.constant([[2, 5, 7, 4], [2, 9, 4, 6]])
    logits, _ = model.forward(ids)
    _, state = model.forward(ids[:, :1])
    for t in range(1, 4):
        one, state = model.step(ids[:, t], state)
        np.testing.assert_allclose(one, logits[:, t], atol=1e-5)


def test_tied_weights_are_one_matrix():
    tied, free = make(embedding=12, tied=True), make(embedding=12)
    assert len(free.weights) == len(tied.weights) + 2
    assert tied.logits(tf.eye(12)).shape == (12, LETTERS.size)
    np.testing.assert_allclose(tied.logits(tf.eye(12)), tf.transpose(tied.embedding.embeddings))


def test_a_prompt_alone_and_in_a_padded_batch():
    model = make()
    prompts = ["", "abc", "hgfedcba abcd"]
    together = model.generate(prompts, 30, temperature=0.0)
    for prompt, text in zip(prompts, together, strict=True):
        assert text.startswith(prompt)
        assert model.generate([prompt], 30, temperature=0.0) == [text]


def test_the_same_seed_gives_the_same_text():
    model = make()
    first = model.generate(["ab", ""], 40, seed=3)
    assert model.generate(["ab", ""], 40, seed=3) == first
    assert model.generate(["ab", ""], 40, seed=4) != first
    assert model.generate(["ab"], 40) != model.generate(["ab"], 40)


def test_reserved_tokens_are_never_drawn():
    model = make()
    model.readout.bias.assign(tf.constant([50.0, 50.0, 50.0, -50.0] + [0.0] * (LETTERS.size - 4)))
    text = model.generate(["a" * 5], 60, seed=1)[0]
    assert len(text) == 65 and "\ufffd" not in text


def test_an_unknown_character_of_a_prompt_stays_visible():
    assert make().generate(["aéb"], 1, temperature=0.0)[0].startswith("a\ufffdb")


def test_it_learns_and_continues(tmp_path):
    model = make("lstm")
    model.compile(keras.optimizers.Adam(0.02, global_clipnorm=1.0))
    data = contiguous(stream(tmp_path, counting(1600)), 4, 20)
    model.fit(data, epochs=6, verbose=0)
    values = model.evaluate(data, return_dict=True, verbose=0)
    assert values["nats"] < 0.1
    assert values["perplexity"] == pytest.approx(np.exp(values["nats"]), rel=1e-5)
    assert values["bits_per_character"] == pytest.approx(values["nats"] / np.log(2), rel=1e-5)
    assert model.generate(["abcd"], 8, temperature=0.0) == ["abcdabcdabcd"]


def test_evaluation_carries_the_state_over_windows(tmp_path):
    """Cut into windows or not, the same ids have the same loss."""
    model = make()
    model.compile()
    ids = stream(tmp_path, np.random.default_rng(1).integers(4, 13, 123))
    figures = [
        model.evaluate(contiguous(ids, 3, window, whole=True), return_dict=True, verbose=0)["nats"]
        for window in (41, 10, 7)
    ]
    assert np.ptp(figures) < 1e-5
    forgetful = make(carry_state=False)
    forgetful.set_weights(model.get_weights())
    forgetful.compile()
    short = contiguous(ids, 3, 7, whole=True)
    assert abs(forgetful.evaluate(short, return_dict=True, verbose=0)["nats"] - figures[0]) > 1e-4


def test_dropout_masks_are_shared_over_time():
    model = make(layers=1, dropout=0.5)
    x = model.dropouts[0](tf.ones([2, 7, 6]), training=True).numpy()
    assert (x == x[:, :1]).all() and 0 < (x == 0).mean() < 1


def test_saved_and_loaded(tmp_path):
    model = make("lstm")
    model.compile(keras.optimizers.AdamW(0.01, clipvalue=0.5))
    data = contiguous(stream(tmp_path, counting(400)), 4, 20)
    model.fit(data, epochs=1, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.get_config() == model.get_config()
    assert loaded.generate(["ab", ""], 30, seed=5) == model.generate(["ab", ""], 30, seed=5)
    # Optimizer and loss come back: one more epoch gives the same weights.
    for one in (model, loaded):
        one.fit(data, epochs=1, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixed_precision_trains(tmp_path):
    model = make("lstm", dtype="mixed_bfloat16")
    model.compile(keras.optimizers.Adam(0.02, global_clipnorm=1.0))
    data = contiguous(stream(tmp_path, counting(1600)), 4, 20)
    history = model.fit(data, epochs=3, verbose=0).history["nats"]
    assert np.isfinite(history).all() and history[-1] < 0.5 * history[0]
    assert model.recurrent[0].cell.kernel.dtype == "float32"
    assert model.recurrent[0].cell.compute_dtype == "bfloat16"
    assert model(tf.constant([[4, 5]])).dtype == tf.float32


def test_words():
    model = LanguageModel(WordTokenizer(["stop", ",", "go", "!"]), units=8, layers=1, embedding=4)
    text = model.generate(["stop, go"], 4, seed=2)[0]
    assert text.startswith("stop, go")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"cell": "lsmt"},
            f"cell: expected one of {', '.join(CELLS)}, got lsmt; choose one of them",
        ),
        ({"units": 0}, "units: expected 1 or more, got 0; raise it"),
        ({"layers": 0}, "layers: expected 1 or more, got 0; raise it"),
        ({"dropout": 1.0}, "dropout: expected a share from 0 to below 1, got 1.0; change it"),
        (
            {"embedding": "onehot"},
            'embedding: expected a width of 1 or more, or "one-hot", got onehot; change it',
        ),
        ({"tied": True}, "tied: expected embedding equal to units, got 6 and 12; make them equal"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError) as error:
        make(**options)
    assert str(error.value) == message


def test_a_vocabulary_of_one_symbol():
    with pytest.raises(InputError) as error:
        LanguageModel(CharTokenizer(["a"]))
    assert str(error.value) == (
        "tokenizer: expected a vocabulary of at least two tokens, got 1; "
        "give a text with more in it"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": "ab"}, "prompts: expected a list of strings, got 'ab'; put it in brackets"),
        ({"length": 0}, "length: expected 1 or more, got 0; raise it"),
        (
            {"temperature": -1.0},
            "temperature: expected 0 or more, finite, got -1.0; use 0 for the likeliest token",
        ),
        (
            {"temperature": float("nan")},
            "temperature: expected 0 or more, finite, got nan; use 0 for the likeliest token",
        ),
        (
            {"prompts": ["ab", "a\ud83d"]},
            "prompts: expected UTF-8, got 'a\\ud83d'; give it as UTF-8",
        ),
        ({"top_k": -1}, "top_k: expected 0 or more, got -1; use 0 for all tokens"),
        ({"top_p": 0.0}, "top_p: expected above 0 and at most 1, got 0.0; use 1 for all tokens"),
    ],
)
def test_wrong_sampling(arguments, message):
    with pytest.raises(InputError) as error:
        make().generate(**{"prompts": ["ab"], **arguments})
    assert str(error.value) == message
