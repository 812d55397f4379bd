"""What fuzzing has found interesting, replayed; scripts/fuzz finds more."""

import pytest

from tests.fuzz.targets import CORPUS, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_of_every_target_is_survived(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs, f"no corpus for {name}"
    for path in inputs:
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_and_many_zeros_are_survived(name: str) -> None:
    for size in (0, 1, 13, 14, 24, 60, 300):
        TARGETS[name](bytes(size))


def test_every_folder_of_the_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
