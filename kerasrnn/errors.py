"""The one exception for what a user got wrong; the command line prints it as one line."""


class InputError(ValueError):
    """An argument that cannot be used.

    The message says the argument, what was expected, what came, and what to do next.

    >>> print(InputError("batch_size", "1 or more", 0, "give --batch-size 32"))
    batch_size: expected 1 or more, got 0; give --batch-size 32
    """

    def __init__(self, argument: str, expected: str, received: object, next_step: str):
        super().__init__(f"{argument}: expected {expected}, got {received}; {next_step}")
