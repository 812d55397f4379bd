"""``mesh-edge netcheck`` from its arguments to what it prints."""

import json
import os
from typing import TextIO

from mesh.cli.netcheck.choice import choose
from mesh.cli.netcheck.measure import measure
from mesh.cli.netcheck.report import document, print_report
from mesh.cli.netcheck.verdict import judge
from mesh.cli.sources import Flags


async def check(
    argument: str | None,
    flags: Flags,
    config: str | None,
    as_json: bool,  # noqa: FBT001 - trio.run passes by position
    out: TextIO,
) -> None:
    """Examine the network and print what came of it.

    Args:
        argument: a community's name or an invite, or None.
        flags: what argparse found, by option name.
        config: the file that ``--config`` names.
        as_json: one document instead of tables.
        out: where to.

    Raises:
        MeshError: no supernode is known, or no socket can be opened.
    """
    choice = await choose(argument, flags, os.environ, config)
    facts = await measure(choice.source, choice.targets)
    verdict = judge(facts)
    if as_json:
        print(json.dumps(document(facts, verdict), indent=2), file=out)
    else:
        print_report(facts, verdict, out)
