"""Translators that translate together."""

import numpy as np
import pytest

from kerasrnn.base.errors import InputError
from kerasrnn.decoding.beam import BeamRules
from kerasrnn.export import export
from kerasrnn.layers import BidirectionalEncoder, Decoder, StackedEncoder
from kerasrnn.models import Ensemble, Translator
from kerasrnn.text.tokenizers import CharTokenizer
from tests.recurrent_cases import scatter

SOURCES = ["abc", "", "cab cab", "x"]
TOKENIZERS = CharTokenizer(list("abc ")), CharTokenizer(list("uvw"))


def translator(seed, encoder=BidirectionalEncoder, conditioning="attention"):
    source, target = TOKENIZERS
    made = Decoder(target.size, 4, "gru", 5, conditioning=conditioning)
    model = Translator(source, target, encoder(source.size, 4, "gru", 5), made)
    scatter(model, seed)
    return model


def figures(model, **options):
    return model.translations(SOURCES, rules=BeamRules(3, 3, banned=model.banned_ids), max_length=6)


def test_a_model_twice_is_that_model():
    one = translator(1)
    for together in (Ensemble([one]), Ensemble([one, one])):
        for found, wanted in zip(figures(together), figures(one), strict=True):
            if found.dtype == object:
                assert found.tolist() == wanted.tolist()
            else:
                np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_two_are_neither():
    one, other = translator(1), translator(2, StackedEncoder, "once")
    together = figures(Ensemble([one, other]))
    assert together.text.tolist() != figures(one).text.tolist()
    assert together.text.tolist() != figures(other).text.tolist()
    np.testing.assert_allclose(together.attention.sum(-1)[0, 0], 1.0, atol=1e-6)


@pytest.mark.slow
def test_an_ensemble_is_exported_and_checked(tmp_path):
    together = Ensemble([translator(1), translator(2)])
    written = export(together, tmp_path / "out", max_length=6)
    assert [path.exists() for path in written] == [True, True]


def test_vocabularies_must_be_the_same():
    source = TOKENIZERS[0]
    other = Translator(
        source, CharTokenizer(["z"]), BidirectionalEncoder(source.size, 4), Decoder(5, 4)
    )
    with pytest.raises(InputError) as error:
        Ensemble([translator(1), other])
    assert str(error.value) == (
        "members: expected the same vocabularies, got 7 and 5 pieces that differ; train on them"
    )
    with pytest.raises(InputError, match="members: expected one translator or more, got none"):
        Ensemble([])
