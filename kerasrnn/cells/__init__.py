"""Recurrent cells as equations; dropout, zoneout, residual, layer norm around them."""

from kerasrnn.cells.base import Cell
from kerasrnn.cells.gru import GRU
from kerasrnn.cells.highway import RecurrentHighway
from kerasrnn.cells.jordan import Jordan
from kerasrnn.cells.layer_norm import LayerNormLSTM
from kerasrnn.cells.lstm import LSTM
from kerasrnn.cells.lstm_variants import (
    CoupledLSTM,
    CoupledPeepholeLSTM,
    FullGateRecurrenceLSTM,
    NoForgetGateLSTM,
    NoInputActivationLSTM,
    NoInputGateLSTM,
    NoOutputActivationLSTM,
    NoOutputGateLSTM,
    PeepholeLSTM,
)
from kerasrnn.cells.mut import MUT1, MUT2, MUT3
from kerasrnn.cells.running import (
    Autoregressive,
    ExponentialAverage,
    RunningMaximum,
    RunningProduct,
    RunningSum,
)
from kerasrnn.cells.simple_rnn import SimpleRNN
from kerasrnn.cells.wrappers import Dropout, LayerNorm, Residual, Zoneout

CELLS = {
    "simple_rnn": SimpleRNN,
    "jordan": Jordan,
    "lstm": LSTM,  # Greff et al.'s NP, no peepholes
    "peephole_lstm": PeepholeLSTM,  # Greff et al.'s vanilla
    "coupled_lstm": CoupledLSTM,
    "lstm_no_input_gate": NoInputGateLSTM,
    "lstm_no_forget_gate": NoForgetGateLSTM,
    "lstm_no_output_gate": NoOutputGateLSTM,
    "lstm_no_input_activation": NoInputActivationLSTM,
    "lstm_no_output_activation": NoOutputActivationLSTM,
    "lstm_coupled_peephole": CoupledPeepholeLSTM,
    "lstm_full_gate_recurrence": FullGateRecurrenceLSTM,
    "layer_norm_lstm": LayerNormLSTM,
    "gru": GRU,
    "mut1": MUT1,
    "mut2": MUT2,
    "mut3": MUT3,
    "recurrent_highway": RecurrentHighway,
    "running_sum": RunningSum,
    "running_product": RunningProduct,
    "running_maximum": RunningMaximum,
    "exponential_average": ExponentialAverage,
    "autoregressive": Autoregressive,
}

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "MUT1",
    "MUT2",
    "MUT3",
    "Autoregressive",
    "Cell",
    "CoupledLSTM",
    "CoupledPeepholeLSTM",
    "Dropout",
    "ExponentialAverage",
    "FullGateRecurrenceLSTM",
    "Jordan",
    "LayerNorm",
    "LayerNormLSTM",
    "NoForgetGateLSTM",
    "NoInputActivationLSTM",
    "NoInputGateLSTM",
    "NoOutputActivationLSTM",
    "NoOutputGateLSTM",
    "PeepholeLSTM",
    "RecurrentHighway",
    "Residual",
    "RunningMaximum",
    "RunningProduct",
    "RunningSum",
    "SimpleRNN",
    "Zoneout",
]
