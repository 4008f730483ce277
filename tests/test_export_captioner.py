"""Exported captioners: the same caption from Keras, ONNX and SavedModel, whatever the image."""

import io

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image

from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export import export, load
from kerasrnn.export.forms import answer
from kerasrnn.export.graphs.onnx_file import convert
from kerasrnn.export.verify import differences, run_fresh
from kerasrnn.layers import Decoder, ImageEncoder
from kerasrnn.layers.images import resize
from kerasrnn.models.captioner import Captioner
from tests.recurrent_cases import scatter
from tests.test_models_captioner import KINDS, WORDS

RULES = {"beam": 3, "n_best": 2}


SOME = [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "gated")) for kind in KINDS]


@pytest.fixture(scope="module", params=SOME)
def exported(request, tmp_path_factory):
    """(the model as served, its ONNX file, its SavedModel)."""
    kind, folder = request.param, tmp_path_factory.mktemp("captioner")
    keras.utils.set_random_seed(0)  # of the encoder: some say much the same of every picture
    both = {"embedding": 8, "cell": "lstm", "units": 9, "layers": 2 - (kind == "hard")}
    decoder = Decoder(WORDS.size, conditioning=kind, readout=KINDS[kind], **both)
    model = Captioner(WORDS, ImageEncoder(image_size=32), decoder)
    scatter(model.decoder, seed=2, scale=2.5)
    options = {"rules": BeamRules(**RULES, banned=model.banned_ids), "max_length": 7}
    written = export(model, folder / "out", **options)
    return model.served(**options), *written


def test_no_image_is_refused(exported):
    _, *artifacts = exported
    for shape in ((0, 8, 8, 3), (1, 0, 8, 3), (1, 8, 0, 3)):
        for artifact in artifacts:
            with pytest.raises(Exception, match="an image or more, of a pixel or more"):
                load(artifact)({"image": np.zeros(shape, np.uint8)})


def photos(count: int = 12) -> list[dict]:
    """Smooth pictures of many sizes, one at a time."""
    random, cases = np.random.default_rng(3), []
    for _ in range(count):
        height, width = random.integers(5, 150, 2).tolist()
        coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3)).astype("uint8"))
        cases.append({"image": np.array(coarse.resize((width, height)))[np.newaxis]})
    return cases


def test_every_picture_is_captioned_alike(exported):
    served, *artifacts = exported
    cases = photos()
    wanted = [answer(served, case) for case in cases]
    assert len({round(float(right["score"][0, 0]), 3) for right in wanted}) > 6
    for artifact in artifacts:
        for right, got in zip(wanted, run_fresh(artifact, cases), strict=True):
            assert not differences(right, got), artifact


def test_encoded_images_are_decoded_inside(exported):
    served, _, saved = exported
    arrays = [case["image"][0] for case in photos(4)]
    files = []
    for i, array in enumerate(arrays):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG" if i % 2 else "JPEG", quality=95)
        files.append(buffer.getvalue())
    run = load(saved)
    found = run({"bytes": np.array(files, object)})
    for i in (1, 3):  # lossless
        assert found["text"][i, 0] == answer(served, {"image": arrays[i][None]})["text"][0, 0]
    signatures = tf.saved_model.load(str(saved)).signatures
    costs = {"score", "score_ids"}
    assert set(signatures) == {"serving_default", "image", "bytes"} | costs
    assert found["attention"].shape[2:] == (8, 8)


def test_every_runtime_resizes_to_the_same_pixels():
    """To the bit: a network makes of one pixel that differs by one a caption that may differ."""
    size, specs = 24, [tf.TensorSpec([None] * 3 + [3], tf.uint8, "image")]
    model = convert(lambda image: resize(image, size), specs, ["pixels"])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for case in photos(60):
        [found] = session.run(None, case)
        np.testing.assert_array_equal(found, resize(tf.constant(case["image"]), size))


def test_what_the_file_says_of_itself(exported):
    _, file, _ = exported
    model = onnx.load(file)
    assert {p.key: p.value for p in model.metadata_props}["task"] == "captioner"
    [image] = model.graph.input
    assert image.name == "image" and image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    names = [output.name for output in model.graph.output]
    assert names == ["text", "score", "tokens", "target_tokens", "attention"]
    domains = {opset.domain for opset in model.opset_import}
    assert domains <= {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
