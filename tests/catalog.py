"""Every public, serializable part of the project, once; the contract tests run over it.

A part that is registered with Keras and missing here fails `test_contracts.py`.
"""

from kerasrnn import attention, attention_cells, cells
from kerasrnn.layers import Bidirectional, Recurrent, encoders
from kerasrnn.layers.decoder import Decoder
from kerasrnn.layers.images import Coordinates, ImageEncoder
from kerasrnn.losses.metrics import BitsPerCharacter, Nats, Perplexity
from kerasrnn.losses.tokens import TokenCrossEntropy
from kerasrnn.models.captioner import Captioner
from kerasrnn.models.language_model import LanguageModel
from kerasrnn.models.token_stack import OneHot
from kerasrnn.models.translator import Translator
from kerasrnn.text.tokenizers import CharTokenizer, SentencePieceTokenizer, WordTokenizer
from kerasrnn.training.optimizers import InverseSquareRoot

D = H = 4  # the running cells keep the width of their input
SIZE = 11  # ids that encoders and decoders know
SENTENCES = ["a cat sat.\n", "the cats sat on the mat, and that was that!\n"] * 30

# name -> how to make one with options that are not the defaults
CELLS = {
    "Autoregressive": lambda: cells.Autoregressive(H, coefficients=(0.6, -0.2, 0.1), learned=True),
    "CoupledLSTM": lambda: cells.CoupledLSTM(H, use_bias=False),
    "CoupledPeepholeLSTM": lambda: cells.CoupledPeepholeLSTM(H),
    "Dropout": lambda: cells.Dropout(cells.GRU(H), rate=0.3, recurrent_rate=0.2, seed=3),
    "ExponentialAverage": lambda: cells.ExponentialAverage(H, decay=0.7, learned=True),
    "FullGateRecurrenceLSTM": lambda: cells.FullGateRecurrenceLSTM(H),
    "GRU": lambda: cells.GRU(H, reset_after=False, update_replaces=True),
    "Jordan": lambda: cells.Jordan(H, outputs=3),
    "LSTM": lambda: cells.LSTM(H, activation="softsign", unit_forget_bias=False),
    "LayerNorm": lambda: cells.LayerNorm(cells.GRU(H), epsilon=1e-3),
    "LayerNormLSTM": lambda: cells.LayerNormLSTM(H, epsilon=1e-3),
    "MUT1": lambda: cells.MUT1(H),
    "MUT2": lambda: cells.MUT2(H),
    "MUT3": lambda: cells.MUT3(H),
    "NoForgetGateLSTM": lambda: cells.NoForgetGateLSTM(H),
    "NoInputActivationLSTM": lambda: cells.NoInputActivationLSTM(H),
    "NoInputGateLSTM": lambda: cells.NoInputGateLSTM(H),
    "NoOutputActivationLSTM": lambda: cells.NoOutputActivationLSTM(H),
    "NoOutputGateLSTM": lambda: cells.NoOutputGateLSTM(H),
    "PeepholeLSTM": lambda: cells.PeepholeLSTM(H),
    "RecurrentHighway": lambda: cells.RecurrentHighway(H, depth=3),
    "Residual": lambda: cells.Residual(cells.SimpleRNN(H)),
    "RunningMaximum": lambda: cells.RunningMaximum(H),
    "RunningProduct": lambda: cells.RunningProduct(H),
    "RunningSum": lambda: cells.RunningSum(H),
    "SimpleRNN": lambda: cells.SimpleRNN(H, activation="relu"),
    "Zoneout": lambda: cells.Zoneout(cells.LSTM(H), rate=(0.1, 0.3), seed=4),
}
LAYERS = {
    "Bidirectional": lambda: Bidirectional(Recurrent(cells.GRU(H), return_sequences=True)),
    "Recurrent": lambda: Recurrent(cells.LSTM(H), return_sequences=True, go_backwards=True),
}
ATTENTIONS = {
    "Additive": lambda: attention.Additive(5),
    "Bilinear": lambda: attention.Bilinear(),
    "Dot": lambda: attention.Dot(),
    "GatedAttention": lambda: attention.GatedAttention(attention.Additive(5)),
    "ScaledDot": lambda: attention.ScaledDot(),
}
# of a memory whose values have D features; `test_attention_cells.py` runs them
ATTENTION_CELLS = {
    "BahdanauCell": lambda: attention_cells.BahdanauCell(cells.GRU(H), attention.Additive(5), D),
    "HardCell": lambda: attention_cells.HardCell(
        cells.LSTM(H), attention.GatedAttention(attention.Additive(5)), D, seed=5
    ),
    "LuongCell": lambda: attention_cells.LuongCell(
        cells.LSTM(H), attention.Bilinear(), D, input_feeding=False
    ),
}
# run by `test_layers_encoders.py`
ENCODERS = {
    "BidirectionalEncoder": lambda: encoders.BidirectionalEncoder(
        SIZE, embedding=3, cell="lstm", units=H, layers=2, dropout=0.1
    ),
    "ConvolutionalEncoder": lambda: encoders.ConvolutionalEncoder(
        SIZE, embedding=3, units=H, layers=3
    ),
    "GNMTEncoder": lambda: encoders.GNMTEncoder(SIZE, embedding=3, units=H, layers=4),
    "StackedEncoder": lambda: encoders.StackedEncoder(
        SIZE, embedding=3, cell="lstm", units=H, layers=2, reverse=True
    ),
}
# and by `test_layers_decoder.py`
DECODERS = {
    "Decoder": lambda: Decoder(
        SIZE, embedding=3, cell="lstm", units=H, layers=2, conditioning="luong", readout="tied"
    ),
}
LOSSES = {"TokenCrossEntropy": lambda: TokenCrossEntropy(label_smoothing=0.2, name="loss_here")}
METRICS = {
    "BitsPerCharacter": lambda: BitsPerCharacter([1, 2, 3], name="bits"),
    "Nats": lambda: Nats(name="loss_again"),
    "Perplexity": lambda: Perplexity(),
}
TOKENIZERS = {
    "CharTokenizer": lambda: CharTokenizer.from_texts(SENTENCES),
    "SentencePieceTokenizer": lambda: SentencePieceTokenizer.from_texts(SENTENCES, 30),
    "WordTokenizer": lambda: WordTokenizer.from_texts(SENTENCES),
}


def make_translator(tokenizer=None, **options) -> Translator:
    """A small translator of one joint vocabulary."""
    tokenizer = tokenizer or WordTokenizer.from_texts(SENTENCES)
    encoder = encoders.BidirectionalEncoder(tokenizer.size, embedding=5, units=6)
    decoder = Decoder(tokenizer.size, embedding=5, units=6, readout="maxout_tied")
    return Translator(tokenizer, tokenizer, encoder, decoder, **options)


def make_captioner(**options) -> Captioner:
    """A small captioner."""
    tokenizer = WordTokenizer.from_texts(SENTENCES)
    decoder = Decoder(tokenizer.size, embedding=5, units=6, conditioning="hard", readout="deep")
    return Captioner(tokenizer, ImageEncoder(image_size=16), decoder, **options)


MODELS = {
    "Captioner": lambda: make_captioner(
        coverage_weight=0.5, reinforce_weight=0.2, entropy_weight=0.3
    ),
    "LanguageModel": lambda: LanguageModel(
        WordTokenizer.from_texts(SENTENCES), cell="gru", units=6, layers=2, embedding=5, dropout=0.1
    ),
    "Translator": lambda: make_translator(shared_embedding=True, scheduled_sampling=0.2, seed=3),
}
OTHERS = {
    "Coordinates": lambda: Coordinates(),
    "ImageEncoder": lambda: ImageEncoder(image_size=32, trainable_stages=1),
    "InverseSquareRoot": lambda: InverseSquareRoot(0.5, 4),
    "OneHot": lambda: OneHot(7),
}
CATALOG = {
    **CELLS,
    **LAYERS,
    **ATTENTIONS,
    **ATTENTION_CELLS,
    **ENCODERS,
    **DECODERS,
    **LOSSES,
    **METRICS,
    **TOKENIZERS,
    **MODELS,
    **OTHERS,
}
