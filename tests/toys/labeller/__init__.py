"""A toy: a line of text in, one of a few labels out."""
