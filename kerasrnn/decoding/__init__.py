"""Greedy, sampling and beam search over a step function, as graph code; heads; ensembles."""

from kerasrnn.decoding.beam import BeamRules, beam_search
from kerasrnn.decoding.heads import Head, Normal, Tokens, draw_values
from kerasrnn.decoding.sampling import Decoded, Sampling, ensemble, greedy, sample

__all__ = [
    "BeamRules",
    "Decoded",
    "Head",
    "Normal",
    "Sampling",
    "Tokens",
    "beam_search",
    "draw_values",
    "ensemble",
    "greedy",
    "sample",
]
