"""Greedy, sampling and beam search over a step function, as graph code; ensembles."""

from kerasrnn.decoding.beam import BeamRules, beam_search
from kerasrnn.decoding.sampling import Decoded, ensemble, greedy, sample

__all__ = ["BeamRules", "Decoded", "beam_search", "ensemble", "greedy", "sample"]
