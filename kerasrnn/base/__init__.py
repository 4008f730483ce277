"""Errors, files that appear whole or not at all, locks, lazy names. No TensorFlow."""
