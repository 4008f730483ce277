"""Each task's settings, run folder, training, use, evaluation and export."""
