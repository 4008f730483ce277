"""A toy: nothing in, a sequence of real values out, drawn step by step."""
