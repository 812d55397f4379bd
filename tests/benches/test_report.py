"""benches.report and benches.plot: what tables, ratios, JSON and the picture say."""

import math
import xml.etree.ElementTree as ET
from pathlib import Path

from benches.end_to_end import quotients
from benches.measures import Column
from benches.plot import svg
from benches.report import median, ratios, read_json, shown, table, write_json

TCP = Column("tcp_mbit", "TCP, Mbit/s")
COST = Column("cpu_s_per_gb", "CPU s per GB", is_better_low=True)
ROWS = {
    "mesh": [{"tcp_mbit": 900.0, "cpu_s_per_gb": 8.0}, {"tcp_mbit": 1100.0, "cpu_s_per_gb": 6.0}],
    "bare veth": [{"tcp_mbit": 10_000.0, "cpu_s_per_gb": math.nan}],
    "tinc & co": [{"tcp_mbit": 500.0, "cpu_s_per_gb": 28.0}, {"tcp_mbit": math.nan}],
}


def test_tables_hold_medians_of_what_could_be_measured() -> None:
    assert median(ROWS["mesh"], "tcp_mbit") == 1000
    assert math.isnan(median(ROWS["bare veth"], "cpu_s_per_gb"))
    lines = table(ROWS, [TCP, COST]).splitlines()
    assert lines[0] == "| | mesh | bare veth | tinc & co |"
    assert lines[2] == "| TCP, Mbit/s | 1,000 | 10,000 | 500 |"
    assert lines[3] == "| CPU s per GB | 7.00 | - | 28.0 |"


def test_ratios_are_ours_divided_by_theirs() -> None:
    lines = ratios(ROWS, [TCP, COST], "mesh").splitlines()
    assert lines[2] == "| TCP, Mbit/s (more is better) | 0.10 | 2.00 |"
    assert lines[3] == "| CPU s per GB (less is better) | - | 0.25 |"


def test_figures_have_as_many_digits_as_they_deserve() -> None:
    assert [shown(value) for value in (12345.6, 123.4, 12.34, 1.234)] == [
        "12,346",
        "123",
        "12.3",
        "1.23",
    ]


def test_json_tells_everything_again(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"rounds": 2}, ROWS)
    facts, rows = read_json(path)
    assert facts == {"rounds": 2}
    assert table(rows, [TCP, COST]) == table(ROWS, [TCP, COST])


def test_the_picture_is_xml_and_leaves_the_bare_link_out() -> None:
    picture = svg(ROWS, [TCP, COST], "2 cores")
    root = ET.fromstring(picture)  # noqa: S314 - our own
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "tinc & co" in texts
    assert "bare veth" not in texts
    bars = [
        float(element.attrib["width"])
        for element in root.iter("{http://www.w3.org/2000/svg}rect")
        if element.attrib.get("fill") != "#ffffff"
    ]
    assert bars[0] == 2 * bars[1]
    assert bars[3] == 4 * bars[2]


def test_quotients_are_those_of_what_was_measured() -> None:
    rows = {"mesh": [{"tcp_mbit": 1000.0}], "mesh relayed": [{"tcp_mbit": 600.0}]}
    lossy = {"mesh": [{"lossy_bbr_mbit": 90.0}], "bare veth": [{"lossy_bbr_mbit": 100.0}]}
    assert [value for _, value in quotients(rows, lossy)] == [0.6, 0.9]
    assert quotients({}, {}) == []
