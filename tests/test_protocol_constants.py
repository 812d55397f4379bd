"""docs/protocol.md against the code: constants, datagrams, inner kinds and control messages."""

import itertools
import re
from pathlib import Path

import pytest

from mesh import constants
from mesh.errors import RefusalReason
from mesh.wire.datagram import EXACT_LENGTHS, MIN_LENGTHS, RELAYED_TYPES, DatagramType
from mesh.wire.inner import InnerKind
from mesh.wire.messages import MEMBER, SCHEMAS, AddressMode
from mesh.wire.schema import Record

SPECIFICATION = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()


def section(number: str) -> str:
    """Return the text from one heading to the next."""
    match = re.search(
        rf"^#+ {re.escape(number)}\.? .*?(?=^#+ |\Z)", SPECIFICATION, re.MULTILINE | re.DOTALL
    )
    assert match, f"docs/protocol.md has a section {number}"
    return match.group()


def rows_of(number: str) -> list[list[str]]:
    """Return the cells of every row of the table in a section, the header left out."""
    table = section(number).partition("\n|---")[2].splitlines()[1:]
    rows = itertools.takewhile(lambda line: line.startswith("|"), table)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def documented_constants() -> dict[str, tuple[str, str, str]]:
    """Return value, unit and section of every row of section 18."""
    return {name.strip("`"): (value, unit, of) for name, value, unit, of in rows_of("18")}


def documented_fields(keys: str) -> dict[str, str]:
    """Return key and kind of ``\\`v\\` version; \\`digest\\` bin 8 (of whom)``."""
    without_remarks = re.sub(r" \([^)]*\)", "", keys)
    if without_remarks == "–":  # noqa: RUF001 - the table writes no keys as a dash
        return {}
    matches = re.findall(r"`(\w+)`([^;]*)(?:;|$)", without_remarks)
    return {key: kind.strip() for key, kind in matches}


def fields_of(schema: Record) -> dict[str, str]:
    """Return key and kind of every field."""
    return {field.key: field.kind.described for field in schema.fields}


class TestConstants:
    def test_every_constant_of_the_module_is_documented_and_the_other_way_round(self) -> None:
        in_code = {
            name for name, value in vars(constants).items() if isinstance(value, int | float)
        }
        assert in_code == documented_constants().keys()

    @pytest.mark.parametrize("name", documented_constants())
    def test_the_value_is_the_documented_one(self, name: str) -> None:
        documented, _, _ = documented_constants()[name]
        value = getattr(constants, name)
        assert repr(value) == documented

    @pytest.mark.parametrize("name", documented_constants())
    def test_the_comment_beside_the_value_names_unit_and_section(self, name: str) -> None:
        _, unit, of = documented_constants()[name]
        source = Path(constants.__file__).read_text()
        line = next(line for line in source.splitlines() if line.startswith(f"{name} ="))
        assert line.endswith((f"; section {of}", f"# section {of}"))
        assert unit == "–" or f"# {unit};" in line  # noqa: RUF001 - the table's dash

    @pytest.mark.parametrize("name", documented_constants())
    def test_the_section_exists(self, name: str) -> None:
        assert section(documented_constants()[name][2])

    @pytest.mark.parametrize(
        ("name", "sentence", "of"),
        [
            ("MAX_DATAGRAM_BYTES", "more than {} bytes", "4"),
            ("REKEY_AFTER_TIME", "session is {:g} s old", "6.2"),
            ("REJECT_AFTER_TIME", "older than {:g} s", "6.2"),
            ("REKEY_RESPONDER_GRACE", "does so {:g} s later", "6.2"),
            ("REPLAY_WINDOW_DATAGRAMS", "window of {} counters", "6.3"),
            ("COOKIE_LIFETIME", "younger than {:g} s", "7"),
            ("MIN_FRAME_BYTES", "A frame has {} to", "8.1"),
            ("MAX_FRAME_BYTES", "to {} bytes", "8.1"),
            ("MAX_FRAGMENTS", "at most {} pieces", "8.2"),
            ("MAX_INCOMPLETE_FRAMES", "at most {} incomplete frames", "8.2"),
            ("REASSEMBLY_TIMEOUT", "at most {:g} s each", "8.2"),
            ("MAX_MESSAGE_BYTES", "A message has at most {} bytes", "9"),
            ("BASE_DATAGRAM_BYTES", "datagram of {} bytes", "9"),
            ("MAX_PING_BYTES", "`ping`, which may have {}", "9"),
            ("SUPERNODE_HEARTBEAT_INTERVAL", "`ping` every {:g} s", "10.5"),
            ("REGISTRATION_LIFETIME", "after {:g} s of silence", "10.5"),
            ("MAX_CANDIDATES", "At most {} candidates", "12.1"),
            ("TRUST_LIFETIME", "for {:g} s after", "12.4"),
            ("PEER_SILENCE_TIMEOUT", "for {:g} s", "12.6"),
            ("MAC_LIFETIME", "for {:g} s", "13"),
            ("MAX_MACS_PER_PEER", "most {} per peer", "13"),
            ("MAX_MACS", "{} in all", "13"),
            ("LEASE_LIFETIME_DAYS", "{} days", "15.1"),
        ],
    )
    def test_the_sentence_that_gives_the_constant_agrees(
        self, name: str, sentence: str, of: str
    ) -> None:
        text = " ".join(section(of).split())
        assert sentence.format(getattr(constants, name)) in text


class TestDatagrams:
    def test_types_and_names_are_those_of_section_4(self) -> None:
        documented = {int(number): name.lower() for number, name, _, _ in rows_of("4")}
        in_code = {int(kind): kind.name.lower().replace("_", " ") for kind in DatagramType}
        assert in_code | {5: "relay envelope"} == documented

    def test_lengths_are_those_of_section_4(self) -> None:
        written = {int(number): length for number, _, length, _ in rows_of("4")}
        in_code = {int(kind): str(length) for kind, length in EXACT_LENGTHS.items()}
        in_code |= {int(kind): f"{length} or more" for kind, length in MIN_LENGTHS.items()}
        assert in_code == written

    def test_an_envelope_holds_the_types_of_section_11(self) -> None:
        match = re.search(r"inside an envelope are of types ([\d, or]+)", section("11"))
        assert match
        assert {int(number) for number in re.findall(r"\d+", match.group(1))} == RELAYED_TYPES


class TestInnerKinds:
    def test_they_are_those_of_section_8(self) -> None:
        documented = {int(number): body for number, body in rows_of("8")}
        assert documented.keys() == set(InnerKind)
        for kind in InnerKind:
            assert kind.name.lower() in documented[kind]


class TestMessages:
    def test_the_names_are_those_of_section_9(self) -> None:
        documented = {name.strip("`") for name, _, _ in rows_of("9")}
        assert documented == {schema.described for schema in SCHEMAS}

    @pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.described)
    def test_keys_and_limits_are_those_of_section_9(self, schema: Record) -> None:
        keys = next(row[2] for row in rows_of("9") if row[0] == f"`{schema.described}`")
        documented = documented_fields(keys)
        # Only `register` says that v is a version; the other rows take it as told.
        documented = {key: kind or "version" for key, kind in documented.items()}
        assert fields_of(schema) == documented

    def test_a_member_is_that_of_section_9(self) -> None:
        match = re.search(r"^\*member\* is a map: (.*)\.$", section("9"), re.MULTILINE)
        assert match
        without_remarks = re.sub(r" \([^)]*\)", "", match.group(1))
        documented = dict(part.strip("`").split("` ") for part in without_remarks.split(", "))
        assert fields_of(MEMBER) == documented

    def test_the_address_modes_are_those_of_section_9(self) -> None:
        register = next(row[2] for row in rows_of("9") if row[0] == "`register`")
        documented = documented_fields(register)["mode"]
        assert documented == ", ".join(f"{mode:d} {mode.name.lower()}" for mode in AddressMode)

    def test_the_refusal_reasons_are_those_of_section_10_3(self) -> None:
        documented = re.findall(r"(\d) ([a-z ]+)", section("10.3").partition("\n")[2])
        assert documented == [
            (str(int(reason)), reason.name.lower().replace("_", " ")) for reason in RefusalReason
        ]
