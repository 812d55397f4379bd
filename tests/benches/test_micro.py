"""benches.micro: every case does what it says, so that the figures mean something."""

import json
from pathlib import Path

import pytest

from benches.micro import SEGMENTS, _addressed, _drain, _pair, _super_frame, cases, main
from benches.timing import Case, time_all


def test_every_case_runs_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "figures.json"
    monkeypatch.setattr(
        "sys.argv", ["micro", "--rounds", "1", "--seconds", "0", "--json", str(written)]
    )
    main()
    names = [case.name for case in cases()]
    assert [each["name"] for each in json.loads(written.read_text())] == names
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in names)


def test_figures_are_those_of_the_median_round() -> None:
    def prepare(count: int) -> object:
        return lambda: sum(range(200 * count))

    [timing] = time_all([Case("sum", 4, 1000, prepare)], 3, 0.001)  # type: ignore[arg-type]
    assert timing.us_per_batch == pytest.approx(timing.ns_per_frame * 4 / 1000)
    assert timing.megabytes_per_second == pytest.approx(1000 / timing.us_per_batch)
    assert timing.spread >= 1


def test_a_super_frame_of_the_bench_leaves_in_one_full_batch() -> None:
    a, b, now = _pair()
    read = _addressed(bytes(_super_frame()), a, b)
    a.engine.receive_frames(memoryview(bytearray(read)), now)
    [batch] = _drain(a)
    assert len(b"".join(batch.buffers)) == SEGMENTS * batch.segment_bytes
