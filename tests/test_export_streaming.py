"""Exported token by token: `encode.onnx` and `step.onnx` write what the Keras model writes."""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.cli.command import main
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export import export, load, read_metadata, verify_export
from kerasrnn.export.forms import answer
from kerasrnn.export.verify import VerificationError
from kerasrnn.layers import Decoder, ImageEncoder
from kerasrnn.models import LanguageModel
from kerasrnn.models.captioner import Captioner
from kerasrnn.models.ensemble import Ensemble
from kerasrnn.text.tokenizers import UNKNOWN
from tests import test_export as lm
from tests import test_export_translator as translators
from tests.recurrent_cases import scatter
from tests.test_models_captioner import KINDS, WORDS

LONGEST = 9
DRIVER = """
import json, sys, numpy as np, onnxruntime

encode, step = (onnxruntime.InferenceSession(f"{sys.argv[1]}/{part}.onnx") for part in ("encode", "step"))
inputs, outputs = [i.name for i in step.get_inputs()], [o.name for o in step.get_outputs()]
said = json.loads(step.get_modelmeta().custom_metadata_map["streaming"])
given = encode.run(None, {encode.get_inputs()[0].name: np.array(json.loads(sys.argv[2]), object)})
feed = dict(zip([o.name for o in encode.get_outputs()], given))
for _ in range(said["max_length"] + 1):
    found = dict(zip(outputs, step.run(None, {name: feed[name] for name in inputs})))
    ids = found["logits"].argmax(-1).astype(np.int32)[:, None]
    feed.update({name: found[output] for output, name in said["next"].items()})
    feed["tokens"] = np.append(feed["tokens"], ids, axis=1)
print(json.dumps(found["text"].tolist()))
"""  # noqa: E501


def captioner(kind: str) -> Captioner:
    both = {"embedding": 8, "cell": "lstm", "units": 9}
    decoder = Decoder(WORDS.size, conditioning=kind, readout=KINDS[kind], **both)
    model = Captioner(WORDS, ImageEncoder(image_size=32), decoder)
    scatter(model.decoder, seed=2, scale=2.5)
    return model


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A translator of words, some unknown, and the folder it was exported to."""
    model, out = translators.make("word"), tmp_path_factory.mktemp("streaming") / "out"
    written = export(model, out, ["streaming"], {"license": "CC0"}, max_length=LONGEST)
    assert written == [out / "encode.onnx", out / "step.onnx"]
    return model, out


def test_every_source_is_translated_as_greedily_as_by_keras(words):
    model, out = words
    greedy = model.served(BeamRules(beam=1, banned=model.banned_ids), LONGEST)
    run, replaced = load(out / "encode.onnx"), 0
    for case in translators.awkward("word"):
        right, found = answer(greedy, case), run(case)
        assert found["text"].tolist() == right["text"][:, 0].tolist(), case
        assert np.allclose(found["score"], right["score"][:, 0], atol=1e-4)
        T = found["tokens"].shape[1]
        assert np.array_equal(found["tokens"], right["tokens"][:, 0, :T])
        assert not right["tokens"][:, 0, T:].any()
        assert np.allclose(found["attention"], right["attention"][:, :T], atol=1e-5)
        assert np.array_equal(found["source_tokens"], right["source_tokens"])
        replaced += np.count_nonzero(found["tokens"] == UNKNOWN)
    assert replaced > 10, "no unknown word was there to be replaced"


def test_names_and_axes(words):
    _, out = words
    step, encode = (onnxruntime.InferenceSession(out / f"{n}.onnx") for n in ("step", "encode"))
    assert [(i.name, i.type, i.shape) for i in encode.get_inputs()] == [
        ("source", "tensor(string)", ["B"])
    ]
    inputs = {i.name: (i.type, i.shape) for i in step.get_inputs()}
    assert inputs == {
        "tokens": ("tensor(int32)", ["B", "T"]),
        "state_0": ("tensor(float)", ["B", 5]),
        "state_1": ("tensor(float)", ["B", 5]),
        "memory_keys": ("tensor(float)", ["B", "S", 5]),
        "memory_values": ("tensor(float)", ["B", "S", 10]),
        "memory_mask": ("tensor(bool)", ["B", "S"]),
        "source_ids": ("tensor(int32)", ["B", "S"]),
        "copied": ("tensor(int32)", ["B", "T"]),
        "source_tokens": ("tensor(string)", ["B", "S"]),
    }
    assert {o.name: (o.type, o.shape) for o in encode.get_outputs()} == inputs
    assert {o.name: (o.type, o.shape) for o in step.get_outputs()} == {
        "text": ("tensor(string)", ["B"]),
        "logits": ("tensor(float)", ["B", translators.make("word").target_tokenizer.size]),
        "next_state_0": ("tensor(float)", ["B", 5]),
        "next_state_1": ("tensor(float)", ["B", 5]),
        "next_copied": ("tensor(int32)", ["B", "T + 1"]),
        "attention": ("tensor(float)", ["B", "S"]),
    }


def test_the_files_say_how_they_belong_together(words):
    _, out = words
    for name in ("encode.onnx", "step.onnx"):
        said = read_metadata(out / name)
        assert (said["task"], said["tokenizer"]) == ("translator", "word, word")
        assert said["license"] == "CC0" and json.loads(said["search"])["rules"]["beam"] == 1
        assert json.loads(said["streaming"]) == {
            "files": ["encode.onnx", "step.onnx"],
            **{"start": 2, "end": 3, "pad": 0, "max_length": LONGEST},
            "next": {f"next_{n}": n for n in ("state_0", "state_1", "copied")},
        }
        domains = {opset.domain for opset in onnx.load(out / name).opset_import}
        assert domains <= {"", "ai.onnx.ml", "com.microsoft"}


def test_a_row_that_has_ended_takes_pads_only(words):
    model, out = words
    encode, step = (onnxruntime.InferenceSession(out / f"{n}.onnx") for n in ("encode", "step"))
    names = [o.name for o in encode.get_outputs()]
    source = {"source": np.array(["that Żubr sat", "", "  "], object)}
    feed = dict(zip(names, encode.run(None, source), strict=True))
    assert feed["tokens"].tolist() == [[2], [3], [3]]
    text, logits = step.run(["text", "logits"], {i.name: feed[i.name] for i in step.get_inputs()})
    assert text.tolist() == ["", "", ""]
    finite = np.isfinite(logits)
    assert sorted(np.flatnonzero(~finite[0])) == sorted(model.banned_ids)
    assert np.flatnonzero(finite[1]).tolist() == np.flatnonzero(finite[2]).tolist() == [0]


def test_fifteen_lines_drive_it_where_there_is_only_onnxruntime(words, tmp_path):
    model, out = words
    kept = ("onnxruntime", "numpy")
    python = lm.bare_environment(tmp_path / "venv", lambda name: name.startswith(kept))
    sources = ["that Żubr sat", "", "the cat, the dog and the Łoś"]
    command = [python, "-c", DRIVER, out, json.dumps(sources)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    rules = BeamRules(beam=1, banned=model.banned_ids)
    assert json.loads(done.stdout) == model.translate(sources, rules=rules, max_length=LONGEST)


def test_any_of_the_files_is_held_against_the_model_later(words):
    model, out = words
    verify_export(model, out / "step.onnx")
    other = translators.make("word")
    scatter(other, seed=3, scale=0.8)
    with pytest.raises(VerificationError, match=r"^encode.onnx: .*the inputs were"):
        verify_export(other, out / "encode.onnx")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: translators.make("char"), id="translator-without-attention"),
        pytest.param(
            lambda: translators.make("subword"), id="translator-subword", marks=pytest.mark.slow
        ),
        pytest.param(lambda: captioner("gated"), id="captioner"),
        pytest.param(
            lambda: captioner("first_input"), id="captioner-first", marks=pytest.mark.slow
        ),
        pytest.param(lambda: captioner("hard"), id="captioner-hard", marks=pytest.mark.slow),
        pytest.param(lambda: lm.make("word", "gru"), id="lm-word", marks=pytest.mark.slow),
        pytest.param(lambda: lm.make("char"), id="lm-char", marks=pytest.mark.slow),
        pytest.param(lambda: lm.make("subword"), id="lm-subword", marks=pytest.mark.slow),
    ],
)
def test_every_kind(tmp_path, make):
    """`export` compares tokens, text, score and attention, and raises when one differs."""
    model = make()
    longest = {} if isinstance(model, LanguageModel) else {"max_length": 7}
    export(model, tmp_path / "out", ["streaming"], **longest)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"encode.onnx", "step.onnx"} | ({"choose.onnx"} if not longest else set())
    given = [o.name for o in onnx.load(tmp_path / "out" / "step.onnx").graph.output]
    assert ("attention" in given) == getattr(model, "attends", False)


def test_words_after_prompts_of_any_length_stand_apart():
    """A row's continuation touches its prompt, whatever the others' lengths."""
    model = lm.make("word", layers=1)
    prompts = ["The quick brown fox", "", "go", "stop", "dog", "The", "it's"]
    together = model.generate(prompts, 6, temperature=0.0)
    assert together == [model.generate([p], 6, temperature=0.0)[0] for p in prompts]
    assert any(text.startswith(f"{p} ") for p, text in zip(prompts[2:], together[2:], strict=True))


def test_what_is_refused(words, tmp_path, capsys):
    model, out = words
    with pytest.raises(InputError) as error:
        export(Ensemble([model]), tmp_path / "x", ["streaming"])
    assert str(error.value) == (
        "model: expected a model with one decoder, for token by token, got Ensemble; export one of "
        "its members"
    )
    assert main(["translate", str(out / "step.onnx"), str(Path(__file__))]) == 2
    assert capsys.readouterr().err == (
        f"kerasrnn: MODEL: expected a whole model, got {out}/step.onnx, which is one step; "
        f"give {out}/model.onnx\n"
    )
