"""How gradients flow through time, and pictures."""
