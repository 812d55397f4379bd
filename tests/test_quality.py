"""Lint, format, types and layer contracts as tests, so that one command says if all is well."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent

pytestmark = pytest.mark.slow


def _complaints_of(*command: str) -> str:
    """Run a tool of the environment that runs the tests; return what it said if it failed."""
    done = subprocess.run(
        [TOOLS / command[0], *command[1:]],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.stdout}{done.stderr}" if done.returncode else ""


def test_the_code_passes_the_linter() -> None:
    complaints = _complaints_of("ruff", "check", "--no-cache", ".")
    assert not complaints, complaints


def test_the_code_is_formatted() -> None:
    complaints = _complaints_of("ruff", "format", "--check", "--no-cache", ".")
    assert not complaints, complaints


def test_the_types_are_right() -> None:
    complaints = _complaints_of("mypy", "--strict")
    assert not complaints, complaints


def test_the_layers_import_only_what_they_may() -> None:
    complaints = _complaints_of("lint-imports", "--no-cache")
    assert not complaints, complaints
