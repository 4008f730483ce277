"""Recurrent cells by name: each is its weights and its equations."""

from kerasrnn.cells.base import Cell
from kerasrnn.cells.gru import GRU
from kerasrnn.cells.lstm import LSTM
from kerasrnn.cells.simple_rnn import SimpleRNN

CELLS = {
    "simple_rnn": SimpleRNN,
    "lstm": LSTM,
    "gru": GRU,
}

__all__ = ["CELLS", "GRU", "LSTM", "Cell", "SimpleRNN"]
