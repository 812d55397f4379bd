"""benches.hot_spots: what a profile is made of."""

from benches.hot_spots import difference, report, room_of
from tests.netns.namespaces import ROOT

SEAL = (str(ROOT / "mesh/crypto/session.py"), 225, "seal_run")
ENCRYPT = ("~", 0, "<method 'encrypt_into' of 'AESGCM' objects>")
COMPILE = ("~", 0, "<built-in method builtins.compile>")


def test_what_a_start_costs_is_left_out() -> None:
    loaded = {SEAL: (3.0, 10), ENCRYPT: (2.0, 440), COMPILE: (5.0, 9)}
    idle = {SEAL: (1.0, 2), COMPILE: (5.0, 9)}
    assert difference(loaded, idle) == [(2.0, 440, ENCRYPT), (2.0, 8, SEAL)]


def test_parts_and_functions_are_told_per_frame() -> None:
    told = report([(3.0, 100, ENCRYPT), (1.0, 10, SEAL)], 100_000, 5)
    assert "| cipher | 75% | 30.0 |" in told
    assert "| mesh.crypto | 25% | 10.0 |" in told
    assert "| `mesh/crypto/session.py:225 seal_run` | 25.0% | 10.0 | 0.00 |" in told


def test_functions_belong_to_rooms_or_to_what_is_beneath() -> None:
    assert room_of(ENCRYPT) == "cipher"
    assert room_of(SEAL) == "mesh.crypto"
    assert room_of(("~", 0, "<built-in method posix.readv>")) == "system calls"
    assert room_of(COMPILE) == "built-ins"
    assert room_of(("/x/site-packages/trio/_core/_run.py", 1, "run")) == "trio"
