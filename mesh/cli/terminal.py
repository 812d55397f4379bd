"""Text that came from the network or from files, made harmless before it reaches a terminal."""

import unicodedata


def printable(text: str) -> str:
    r"""Return ``text`` with everything that could steer a terminal written as ``\x1b``.

    Peers choose their names: a name may hold escape sequences, line breaks that forge log lines, or
    marks that reverse the direction of what follows. Letters of every script and spaces stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_harmless(char) else _escape(char) for char in text)


def _is_harmless(char: str) -> bool:
    # Zl, Zp and every C category are unprintable to str.isprintable already; marks that stack
    # without end (Mn on Mn) cannot leave their line, so they stay.
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
