"""Names from the network must not steer a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.cli.terminal import printable


@given(st.text())
def test_nothing_unprintable_is_left(text: str) -> None:
    assert printable(text).isprintable()


@given(st.text(st.characters(categories=("L", "N", "P", "S"))))
def test_text_of_every_script_stays(text: str) -> None:
    assert printable(text) == text


def test_escape_sequences_line_breaks_and_direction_marks_are_shown_as_text() -> None:
    assert printable("a\x1b[2Jb") == "a\\x1b[2Jb"
    assert printable("a\nINFO forged") == "a\\nINFO forged"
    assert printable("\u202eevil") == "\\u202eevil"
    assert printable("\udcff") == "\\udcff"
