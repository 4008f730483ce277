"""Names that options of the command line and arguments of functions share; no TensorFlow."""

LEVELS = ("char", "word", "subword")  # what a token is
STRATEGIES = ("auto", "mirrored", "multi-worker", "one-device")
CHECKPOINTS = BEST, LAST = ("best", "last")  # the models of a run
