"""Exported files of somebody else reach nothing but themselves: one line says why not."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

import kerasrnn
from kerasrnn.base.errors import NEVER, InputError
from kerasrnn.cli import command as cli
from kerasrnn.export import quantize, verify_export
from kerasrnn.export.untrusted import check_artifact
from kerasrnn.models import LanguageModel
from kerasrnn.tasks import opening
from kerasrnn.tasks.catalog import TASKS

COMMANDS = {
    "generate": ("--prompt", "a"),
    "translate": ("/dev/null",),
    "caption": ("x.png",),
}
EXPECTED = "a model that reads and reaches nothing but itself"


def onnx_file(path, location: str | None = None, operator=("Identity", ""), **metadata):
    """A model of one constant, which lies at `location`."""
    constant = TensorProto(name="c", data_type=TensorProto.UINT8, dims=[4])
    if location is None:
        constant.raw_data = b"1234"
    else:
        constant.data_location = TensorProto.EXTERNAL
        constant.external_data.add(key="location", value=location)
    body = helper.make_graph(
        [helper.make_node(operator[0], ["c"], ["text"], domain=operator[1])],
        "body",
        [],
        [helper.make_tensor_value_info("text", TensorProto.UINT8, [4])],
        [constant],
    )
    # What is in the body of a branch counts as well.
    prompt = helper.make_tensor_value_info("prompt", TensorProto.BOOL, [])
    node = helper.make_node("If", ["prompt"], ["text"], then_branch=body, else_branch=body)
    graph = helper.make_graph([node], "g", [prompt], body.output)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def refused(capsys, path, command: str = "generate") -> str:
    assert cli.main([command, str(path), *COMMANDS[command]]) == 2
    said = capsys.readouterr()
    beginning = f"kerasrnn: MODEL: expected {EXPECTED}, got {path}, "
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith(beginning)
    return said.err.removeprefix(beginning).removesuffix(f"; {NEVER}\n")


@pytest.fixture
def secret(tmp_path):
    """A file that is none of the model's, and the folder that a stranger gave."""
    (tmp_path / "secret").write_bytes(b"abcd")
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_constants_above_the_folder_are_refused(secret, capsys, command):
    path = onnx_file(secret / "model.onnx", "../secret")
    assert refused(capsys, path, command) == "whose constants lie in ../secret"


def test_constants_anywhere_else_are_refused(secret, capsys):
    (secret / "link").symlink_to(secret.parent / "secret")
    absolute, memory = str(secret.parent / "secret"), "*/_ORT_MEM_ADDR_/*"
    for place in (absolute, "link", memory, "missing", "."):
        path = onnx_file(secret / "model.onnx", place)
        assert refused(capsys, path) == f"whose constants lie in {place}"


def test_constants_beside_the_file_are_read(secret, monkeypatch):
    (secret / "model.onnx.data").write_bytes(b"1234")
    path = onnx_file(secret / "model.onnx", "model.onnx.data")
    check_artifact(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"prompt": np.array(True)})[0].tolist() == [49, 50, 51, 52]
    monkeypatch.chdir(secret)
    check_artifact(secret.relative_to(secret) / "model.onnx")


def test_verify_and_quantize_refuse_it_too(secret, monkeypatch):
    said = {"task": "language model"}
    path = onnx_file(secret / "model.onnx", "../secret", **said)
    monkeypatch.setattr(onnx, "load_external_data_for_model", None)
    model = LanguageModel(kerasrnn.CharTokenizer.from_texts(["ab"]), units=2, layers=1, embedding=2)
    ways = {
        "EXPORT": lambda: verify_export(model, path),
        "path": lambda: quantize(path, secret / "small.onnx", "fp16"),
    }
    for argument, way in ways.items():
        with pytest.raises(InputError) as error:
            way()
        reason = f"whose constants lie in ../secret; {NEVER}"
        assert str(error.value) == f"{argument}: expected {EXPECTED}, got {path}, {reason}"
    assert [file.name for file in secret.iterdir()] == ["model.onnx"]


def test_the_other_files_of_a_model_token_by_token(secret, capsys):
    said = {"streaming": json.dumps({"files": ["encode.onnx", "step.onnx"]})}
    path = onnx_file(secret / "encode.onnx", **said)
    onnx_file(secret / "step.onnx", "../secret", **said)
    assert refused(capsys, path) == "with step.onnx, whose constants lie in ../secret"
    path = onnx_file(path, streaming=json.dumps({"files": ["encode.onnx", "../secret"]}))
    assert cli.main(["generate", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"kerasrnn: MODEL: expected an exported model, got {path} (Invalid name '../secret'); "
        "export it again\n"
    )


@pytest.mark.parametrize("domain", ["ai.onnx.contrib", "com.microsoft.extensions"])
def test_operators_of_extensions_that_nobody_needs(secret, capsys, domain):
    path = onnx_file(secret / "model.onnx", operator=("ReadFile", domain))
    assert refused(capsys, path) == "whose operator ReadFile is not one that kerasrnn writes"


def test_what_onnx_cannot_read_no_runtime_sees(secret, capsys, monkeypatch):
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    (secret / "model.onnx").write_bytes(b"\x18\x00\x00\x00ORTM" * 20)
    assert cli.main(["generate", str(secret / "model.onnx"), "--prompt", "a"]) == 2
    assert capsys.readouterr().err.startswith("kerasrnn: MODEL: expected an exported model, got ")


def test_a_model_that_does_not_answer(secret, capsys):
    path = onnx_file(secret / "model.onnx", task="lm")  # its prompt is no text
    assert cli.main(["generate", str(path), "--prompt", "a"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"kerasrnn: MODEL: expected a model that answers, got {path} (")
    assert said.endswith("; export it again\n") and said.count("\n") == 1


def test_a_model_that_answers_something_else(secret, monkeypatch):
    monkeypatch.setattr(opening, "check_artifact", lambda path: None)
    monkeypatch.setattr(opening, "load", lambda path: answer)

    def answer(inputs):
        return {"tokens": inputs["source"]}

    answer.metadata = {"task": "translator"}
    path = secret / "model.onnx"
    path.touch()
    with pytest.raises(InputError) as error:
        opening.open_model(path, TASKS["translator"])({"source": np.array(["a"], object)})
    said = f"got {path} (without text); export it again"
    assert str(error.value) == f"MODEL: expected a model that answers, {said}"


def saved(path, body):
    """A SavedModel whose signature is `body`, with a variable."""
    module = tf.Module()
    module.kept = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(prompt):
        return {"text": body(prompt, module.kept)}

    tf.saved_model.save(module, str(path), signatures=serve)
    return path


def in_a_loop(prompt, kept):
    return tf.map_fn(tf.io.read_file, prompt)


def after(operation, prompt):
    with tf.control_dependencies([operation]):
        return tf.identity(prompt)


BODIES = {
    "ReadFile": in_a_loop,
    "MatchingFiles": lambda prompt, kept: tf.io.matching_files(prompt),
    "PrintV2": lambda prompt, kept: after(tf.print(prompt, output_stream="file:///x"), prompt),
    "EagerPyFunc": lambda prompt, kept: tf.py_function(lambda p: p, [prompt], tf.string),
    "PyFunc": lambda prompt, kept: tf.numpy_function(lambda p: p, [prompt], tf.string),
    "TextLineDataset": lambda prompt, kept: after(
        tf.raw_ops.TextLineDataset(filenames=prompt, compression_type="", buffer_size=0).op, prompt
    ),
    "DecodeProtoV2": lambda prompt, kept: (
        tf.raw_ops.DecodeProtoV2(
            bytes=prompt, message_type="a", field_names=[], output_types=[], descriptor_source="/x"
        ).sizes
    ),
    "SaveV2": lambda prompt, kept: after(
        tf.raw_ops.SaveV2(
            prefix="/x", tensor_names=["a"], shape_and_slices=[""], tensors=[kept.read_value()]
        ),
        prompt,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_operators_that_reach_something_are_refused(secret, capsys, name):
    path = saved(secret / "saved", BODIES[name])
    for command in COMMANDS:
        reason = f"whose operator {name} may read, write or reach something else"
        assert refused(capsys, path, command) == reason


def test_the_functions_that_save_variables_must_not_be_called(secret, capsys):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = saved(secret / "saved", lambda prompt, kept: tf.strings.as_string(kept) + prompt)
    check_artifact(path)
    graph = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    functions = graph.meta_graphs[0].graph_def.library.function
    restore = next(f.signature.name for f in functions if "restore" in f.signature.name)
    serve = next(f for f in functions if "serve" in f.signature.name)
    call = serve.node_def.add(name="x", op="StatefulPartitionedCall")
    call.attr["f"].func.name = restore
    (path / "saved_model.pb").write_bytes(graph.SerializeToString())
    assert "RestoreV2" in refused(capsys, path) or "ShardedFilename" in refused(capsys, path)


def test_a_graph_of_tensorflow_1_is_refused(secret, capsys):
    path = saved(secret / "saved", lambda prompt, kept: prompt)
    shutil.rmtree(path / "variables")
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graph.meta_graphs[0].ClearField("object_graph_def")
    (path / "saved_model.pb").write_bytes(graph.SerializeToString())
    assert refused(capsys, path) == "which is not of TensorFlow 2"
