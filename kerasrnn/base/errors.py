"""The one exception for what a user got wrong, which the command line prints as one line; how
others are quoted in it; and a check that many places need."""

NEVER = "do not use this file"  # the next step where it was made to do harm


class InputError(ValueError):
    """An argument that cannot be used.

    The message says the argument, what was expected, what came, and what to do next; these are
    its attributes. It is one line: what a file says in it may hold line breaks and codes that a
    terminal obeys.

    >>> print(InputError("batch_size", "1 or more", 0, "give --batch-size 32"))
    batch_size: expected 1 or more, got 0; give --batch-size 32
    """

    __module__ = "kerasrnn"  # as users import it, and as a traceback says it

    def __init__(self, argument: str, expected: str, received: object, next_step: str):
        super().__init__(shown(f"{argument}: expected {expected}, got {received}; {next_step}"))
        self.argument, self.expected = argument, expected
        self.received, self.next_step = received, next_step


def shown(text: str) -> str:
    r"""The text on one line, what cannot be printed written as Python writes it.

    >>> print(shown("a\nb\x1b[2J"))
    a\nb\x1b[2J
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException | str) -> str:
    """The first line of what an exception, or a text, says; its class where it says nothing.

    >>> first_line(ValueError("no such thing\\nTraceback"))
    'no such thing'
    >>> first_line(MemoryError())
    'MemoryError'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_texts(argument: str, strings) -> None:
    """Refuse what is no list of strings, and lone surrogates, which are no text (InputError)."""
    if isinstance(strings, str) or not all(isinstance(s, (str, bytes)) for s in strings):
        raise InputError(argument, "a list of strings", repr(strings), "put it in brackets")
    for text in strings:
        if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(argument, "UTF-8", ascii(text), "give it as UTF-8")
