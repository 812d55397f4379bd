"""Text that came from the network or from files, made harmless before it reaches a terminal."""


def printable(text: str) -> str:
    r"""Return ``text`` with everything that could steer a terminal written as ``\x1b``.

    Peers choose their names: a name may hold escape sequences, line breaks that forge log lines, or
    marks that reverse the direction of what follows. Letters of every script and plain spaces stay.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
