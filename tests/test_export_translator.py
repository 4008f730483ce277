"""Exported translators: the same text from Keras, ONNX and SavedModel, whatever the source is."""

import numpy as np
import onnx
import onnxruntime
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export import export, load
from kerasrnn.export.forms import SavedModel, answer
from kerasrnn.export.graphs.loops import nodes
from kerasrnn.export.metadata import search_in
from kerasrnn.export.verify import differences, run_fresh
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.encoders import BidirectionalEncoder, StackedEncoder
from kerasrnn.models.translator import Translator
from kerasrnn.text.tokenizers import UNKNOWN
from tests.catalog import TOKENIZERS
from tests.recurrent_cases import scatter
from tests.test_export import GIVE_ONE, SERVED

SEARCH = {"beam": 3, "n_best": 2, "length_penalty": 0.7, "no_repeat_ngram": 3}
LONGEST = 9
KINDS = {  # tokenizer, conditioning, encoder, readout
    "word": ("WordTokenizer", "attention", BidirectionalEncoder, "maxout_tied"),
    "char": ("CharTokenizer", "every_step", StackedEncoder, "maxout"),
    "subword": ("SentencePieceTokenizer", "input_feeding", BidirectionalEncoder, "tied"),
}
AWKWARD = [
    *("é", "e\u0301", "日本", "\U0001f989", "\u200d", "ß", "שלום", "\ufeff", "ﬁ", "\xad"),
    *(" ", "  ", "\t", "\n", "\r\n", "\x01", "\x7f", "\x85", "\u2028", "\u3000", "\xa0"),
    *("\0", "a\0b", "\0\0", "\U0002ebf0", "a\U0002ee5d"),
    *("'", "’", '"', "...", "?!", "(", ")", "-", "$x$", "<pad>", "</s>", "<unk>", "\ufffd", "▁"),
]


def make(kind: str) -> Translator:
    name, conditioning, encoder, readout = KINDS[kind]
    tokenizer = TOKENIZERS[name]()
    both = {"embedding": 6, "cell": "lstm" if kind == "char" else "gru", "units": 5, "layers": 2}
    decoder = Decoder(tokenizer.size, conditioning=conditioning, readout=readout, **both)
    encoder = encoder(tokenizer.size, **both)
    model = Translator(tokenizer, tokenizer, encoder, decoder, shared_embedding=True)
    scatter(model, seed=2, scale=0.8)
    if kind == "word":  # so that some words are unknown, and some are not
        bias = np.random.default_rng(0).normal(size=tokenizer.size)
        bias[UNKNOWN] = 3.0
        decoder.readout_bias.assign(bias)
    return model


def awkward(kind: str, batches: int = 12) -> list[dict]:
    """Batches of random strings of known pieces and of what nobody expects."""
    random, known = np.random.default_rng(5), TOKENIZERS[KINDS[kind][0]]().pieces[4:]
    cases = [[""], ["", "  "], ["\n"], AWKWARD]
    for _ in range(batches):
        texts = []
        for _ in range(random.integers(1, 6)):
            count = random.integers(0, 14)
            pool = [*known, *random.choice(AWKWARD, len(known))]
            texts.append(random.choice(["", " "]).join(random.choice(pool, count)))
        cases.append(texts)
    return [{"source": np.array(texts, object)} for texts in cases]


SOME = [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "char")) for kind in KINDS]


@pytest.fixture(scope="module", params=SOME)
def exported(request, tmp_path_factory):
    """(kind, the model as served, its ONNX file, its SavedModel)."""
    kind, folder = request.param, tmp_path_factory.mktemp("translator")
    if kind == "subword":
        pytest.importorskip("sentencepiece")
    model = make(kind)
    options = {"rules": BeamRules(**SEARCH, banned=model.banned_ids), "max_length": LONGEST}
    [file] = export(model, folder / "out", ["onnx"], **options)
    served, saved = model.served(**options), folder / "saved_model"
    SavedModel(served).write(saved, {})
    return kind, served, file, saved


def test_every_source_is_translated_alike(exported):
    kind, served, file, saved = exported
    cases = awkward(kind)
    expected = [answer(served, case) for case in cases]
    texts = {text for right in expected for text in right["text"].ravel()}
    assert len(texts) >= 5, "too alike to show anything"
    if kind == "subword":  # onnxruntime-extensions and TensorFlow Text need processes of their own
        found = run_fresh(file, cases)
    else:
        found = list(map(load(file), cases))
    for case, right, *answers in zip(cases, expected, found, map(load(saved), cases), strict=True):
        for got in answers:
            assert set(got) == set(right)
            assert differences(right, got) == [], case["source"].tolist()


def test_unknown_words_are_copied_in_every_runtime(exported):
    kind, served, file, saved = exported
    case = {"source": np.array(["Żubr, Łoś", "that Żubr sat"], object)}
    right = answer(served, case)
    if kind != "word":
        assert UNKNOWN not in right["tokens"]
        return
    assert UNKNOWN in right["tokens"][:, 0] and (right["tokens"][:, 0] > 3).any()
    copied = right["target_tokens"][right["tokens"][:, 0] == UNKNOWN]
    assert set(copied.tolist()) <= {"Żubr", ",", "Łoś", "that", "sat"}
    assert any("Łoś" in text or "Żubr" in text for text in right["text"].ravel())
    for path in (file, saved):
        assert differences(right, load(path)(case)) == []


def test_the_search_is_fixed_in_the_file(exported):
    kind, served, file, _ = exported
    if kind == "subword":
        pytest.skip("needs a process of its own")
    session = onnxruntime.InferenceSession(file)
    assert [(i.name, i.type, len(i.shape)) for i in session.get_inputs()] == [
        ("source", "tensor(string)", 1)
    ]
    kinds = ["string", "float", "int32", "string", "string", "float"]
    names = [place.name for place in served.gives]
    assert [(o.name, o.type) for o in session.get_outputs()] == [
        (name, f"tensor({kind})") for name, kind in zip(names, kinds, strict=True)
    ]
    long = served.cases()[4]
    found = dict(zip(names, session.run(None, long), strict=True))
    assert found["text"].shape == (1, SEARCH["n_best"])
    assert found["tokens"].shape[2] == LONGEST == found["attention"].shape[1]
    assert (np.diff(found["score"]) <= 0).all()
    wider = BeamRules(**{**SEARCH, "beam": 1, "n_best": 1}, banned=served.model.banned_ids)
    greedy = served.model.served(wider, LONGEST)
    scores = [answer(s, case)["score"][:, 0] for case in awkward(kind) for s in (served, greedy)]
    assert any((a > b + 1e-4).any() for a, b in zip(scores[::2], scores[1::2], strict=True))


def test_the_file_says_what_it_is(exported):
    kind, served, file, saved = exported
    model = onnx.load(file)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata["task"], metadata["tokenizer"]) == ("translator", f"{kind}, {kind}")
    assert search_in(metadata) == {"rules": served.rules, "max_length": LONGEST}
    stock = {"", "ai.onnx.ml", "com.microsoft"}
    found = [node.op_type for node in nodes(model.graph)]
    bidirectional = KINDS[kind][2] is BidirectionalEncoder
    assert found.count("GRU" if bidirectional else "LSTM") == 2  # one for each layer, both ways
    domains = {opset.domain for opset in model.opset_import}
    assert domains - stock == ({"ai.onnx.contrib"} if kind == "subword" else set())
    marker = saved / "assets.extra" / "needs_tensorflow_text"
    assert marker.exists() == (kind != "char")


def test_what_export_refuses(exported, tmp_path):
    _, served, file, _ = exported
    for arguments, message in (
        (
            (served.model, file.parent),
            f"--out: expected a folder that does not exist yet, got {file.parent}; "
            "give another name",
        ),
        (
            ("text", tmp_path / "x"),
            f"model: expected {SERVED}, got str; {GIVE_ONE}",
        ),
    ):
        with pytest.raises(InputError) as error:
            export(*arguments)
        assert str(error.value) == message


def test_a_translation_may_be_longer_than_its_source(tmp_path):
    """Costs of any lengths are the Keras model's: an axis of one text is not the other's."""
    model = make("word")
    [path] = export(model, tmp_path / "out", ["score"])
    scoring, run = model.served().scoring, load(path)
    for source, target in (("a", "the cat sat on the mat"), ("the cat sat on the mat", "a")):
        case = {"source": np.array([source], object), "target": np.array([target], object)}
        assert differences(answer(scoring, case), run(case)) == []
