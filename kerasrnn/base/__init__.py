"""What everything else stands on: errors, whole files, locks, lazy names. No TensorFlow."""
