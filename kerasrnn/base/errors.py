"""The exception for a user's mistakes, `InputError`, and helpers for its one-line messages.

The command line prints the message of an `InputError` and no traceback.
"""

NEVER = "do not use this file"  # the next step where a file was made to do harm


class InputError(ValueError):
    """An argument that cannot be used.

    The message is one line: the argument, what was expected, what was received, and the next step.
    Line breaks and control codes are escaped, because the message may quote a file, and a terminal
    would obey the codes.

    Attributes:
        argument, expected, received, next_step: the parts of the message.

    >>> print(InputError("batch_size", "1 or more", 0, "give --batch-size 32"))
    batch_size: expected 1 or more, got 0; give --batch-size 32
    """

    __module__ = "kerasrnn"  # where users import it from, so a traceback names it so

    def __init__(self, argument: str, expected: str, received: object, next_step: str):
        super().__init__(one_line(f"{argument}: expected {expected}, got {received}; {next_step}"))
        self.argument, self.expected = argument, expected
        self.received, self.next_step = received, next_step


def one_line(text: str) -> str:
    r"""The text on one line, with every unprintable character escaped as in Python.

    >>> print(one_line("a\nb\x1b[2J"))
    a\nb\x1b[2J
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_line(error: BaseException | str) -> str:
    """The first line of an exception's message or of a text; the class name where it is empty.

    >>> first_line(ValueError("no such thing\\nTraceback"))
    'no such thing'
    >>> first_line(MemoryError())
    'MemoryError'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_texts(argument: str, strings) -> None:
    """Raise InputError unless `strings` is a list of strings without lone surrogates.

    Bytes are not examined. A lone surrogate cannot be written as UTF-8.
    """
    if isinstance(strings, str) or not all(isinstance(s, (str, bytes)) for s in strings):
        raise InputError(argument, "a list of strings", repr(strings), "put it in brackets")
    for text in strings:
        if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(argument, "UTF-8", ascii(text), "give it as UTF-8")
