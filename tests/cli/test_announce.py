"""The lines on stdout, and the code that only a terminal gets."""

import io

from mesh.cli.announce import joined_line, print_invite_code, print_line

URL = f"mesh://192.0.2.1:7777/lan?s={'a' * 32}#s3cret"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ClosedPipe(io.StringIO):
    def flush(self) -> None:
        raise BrokenPipeError


def test_a_hostile_community_cannot_break_the_line() -> None:
    line = joined_line("a\nb", "x\x1b[2J", "mesh0", "10.1.2.3/22", "h:1")
    assert line.isprintable()


def test_a_reader_that_went_away_is_no_reason_to_leave() -> None:
    print_line("joined", ClosedPipe())


def test_a_terminal_gets_a_code_of_several_lines() -> None:
    screen = Terminal()
    print_invite_code(URL, screen)
    assert len(screen.getvalue().splitlines()) > 10
    assert "s3cret" not in screen.getvalue()


def test_a_pipe_gets_no_code() -> None:
    pipe = io.StringIO()
    print_invite_code(URL, pipe)
    assert pipe.getvalue() == ""
