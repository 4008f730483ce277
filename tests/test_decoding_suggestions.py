"""The likeliest words, against all words that there are."""

import itertools
import json

import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.suggestions import begun_word, roles, suggest
from kerasrnn.text.tokenizers import RESERVED
from tests import test_export as lm
from tests.test_cli import call, refused

PIECES = ["a", "b", "c", " ", "."]
WAYS = np.log(np.random.default_rng(3).dirichlet([1, 1, 1, 2, 1], size=5))  # p(next | last)


def step(id, state):
    return WAYS[id], None


def all_words(begun: str, longest: int = 9) -> dict[str, float]:
    """Every word of at most so many letters that begins so: its probability among them."""
    found = {}
    for length in range(1, longest + 1):
        for ids in itertools.product(range(3), repeat=length):
            word = "".join(PIECES[i] for i in ids)
            if word.startswith(begun):
                path = [3, *ids]
                cost = sum(WAYS[a, b] for a, b in itertools.pairwise(path))
                found[word] = np.exp(cost) * np.exp(WAYS[ids[-1], 3:]).sum()
    total = sum(found.values())
    return {word: p / total for word, p in found.items()}


@pytest.mark.parametrize("begun", ["", "b", "ca", "cab"])
def test_the_likeliest_of_all_words_are_found(begun):
    wanted = sorted(all_words(begun).items(), key=lambda item: -item[1])[:6]
    found = suggest(step, (3, None), roles(PIECES, "char"), "char", begun, 6)
    assert [word for word, _ in found] == [word for word, _ in wanted]
    np.testing.assert_allclose([p for _, p in found], [p for _, p in wanted], atol=2e-3)


def test_the_word_that_a_text_ends_in():
    for text, word in (("", ""), ("a", "a"), ("It’s", "It’s"), ("x, y!", ""), ("naïve é", "é")):
        assert begun_word(text) == word


def test_a_model_of_words_suggests_known_words_by_their_probability():
    model = lm.make("word", "gru")
    tokenizer = model.tokenizer
    ids, state = model.start(tokenizer.tokenize(["the "]).to_tensor())
    logits = model.step(ids, state)[0].numpy()[0]
    known = tokenizer.pieces[len(RESERVED) :]
    letter = next(word[0] for word in known if word[0].isalpha())
    chosen = {w: np.exp(logits[tokenizer.pieces.index(w)]) for w in known if w.startswith(letter)}
    found = model.suggest(f"the {letter}", 3)
    wanted = sorted(chosen.items(), key=lambda item: -item[1])[: len(found)]
    assert [word for word, _ in found] == [word for word, _ in wanted]
    total = sum(chosen.values())
    np.testing.assert_allclose([p for _, p in found], [p / total for _, p in wanted], rtol=1e-4)


@pytest.mark.parametrize("level", ["char", "subword"])
def test_every_level_suggests_words_that_begin_so(level):
    if level == "subword":
        pytest.importorskip("sentencepiece")
    model = lm.make(level)
    for prompt, begun in (("The qu", "qu"), ("The ", ""), ("", "")):
        found = model.suggest(prompt, 4)
        assert len(found) == 4 and all(word.startswith(begun) for word, _ in found), found
        shares = [share for _, share in found]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1.0001
    with pytest.raises(InputError, match=r"^suggest: expected 1 word or more, got 0; raise it$"):
        model.suggest("a", 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggest")
    (folder / "text.txt").write_text(lm.TEXT * 4)
    out, settings = str(folder / "run"), ("--units", "8", "--layers", "1", "--epochs", "1")
    words = ("train", "lm", "--text", folder / "text.txt", "--out", out, *settings)
    from kerasrnn.cli.command import main

    assert main([str(word) for word in [*words, "--batch-size", "2", "--window", "20"]]) == 0
    return folder / "run"


def test_the_command_says_words_and_probabilities(trained, capsys, tmp_path):
    command = ("generate", trained, "--prompt", "The qu", "--suggest", 3)
    code, out, _ = call(capsys, *command)
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and len(rows) == 3 and all(word.startswith("qu") for word, _ in rows)
    data = json.loads(call(capsys, *command, "--json")[1])
    assert data["prompt"] == "The qu" and data["word"] == [word for word, _ in rows]
    assert call(capsys, *command, "--out", tmp_path / "words.csv")[0] == 0
    assert (tmp_path / "words.csv").read_text().startswith("prompt,rank,word,probability\n")
    assert refused(capsys, *command, "--temperature", 0.5) == (
        "kerasrnn: --temperature: expected no --suggest beside it, got both; "
        "leave --temperature out"
    )
    assert "--suggest: expected 1 word or more, got 0" in refused(capsys, *command[:-1], 0)
    (tmp_path / "model.onnx").touch()
    assert refused(capsys, "generate", tmp_path / "model.onnx", "--suggest", 2) == (
        "kerasrnn: --suggest: expected a run folder beside it: an export does not say how likely a "
        f"word is, got {tmp_path}/model.onnx; give the run"
    )
