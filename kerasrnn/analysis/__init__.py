"""Plots, and how gradients flow through time."""
