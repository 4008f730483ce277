"""Greedy, sampling and beam search over a step function, as graph code; ensembles."""

from kerasrnn.decoding.beam import BeamRules, beam_search
from kerasrnn.decoding.sampling import Decoded, Sampling, ensemble, greedy, sample

__all__ = ["BeamRules", "Decoded", "Sampling", "beam_search", "ensemble", "greedy", "sample"]
