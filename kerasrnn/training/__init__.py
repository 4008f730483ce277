"""Training that can be stopped and go on: callbacks, checkpoints, optimizers, NaN."""
