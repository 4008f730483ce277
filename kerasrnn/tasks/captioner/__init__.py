"""Captioners: image to text."""
