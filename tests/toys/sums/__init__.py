"""A toy: two series in, a number out, with a likelihood; the state is carried."""
