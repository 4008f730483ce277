"""Training that can be stopped and continued: callbacks, checkpoints, optimizers, NaN."""
