"""Coverage-guided fuzzing of one target or of all in turn: scripts/fuzz [TARGET] [SECONDS].

What is found interesting is added to the target's folder of the corpus if it reaches code that
nothing there reaches yet, which the tests then replay. Input that breaks a promise stays in
tests/fuzz/findings/ for the regression test that comes with the repair.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mesh", "supernode", "h11", "wsproto"]):
    from tests.fuzz.targets import CORPUS, TARGETS

FINDINGS = CORPUS.with_name("findings")
_MAX_BYTES = {"split": 8000, "join": 8000, "fragment": 2000, "edge": 6000, "supernode": 6000}
_UNIT_TIMEOUT = 20  # s; for one input: nothing that is small may take long


def fuzz_here(name: str, program: str, options: list[str]) -> None:
    """Hand this process over to libFuzzer, which ends it."""
    atheris.Setup([program, *options], TARGETS[name])
    atheris.Fuzz()


def _write_launcher(folder: Path, name: str) -> Path:
    """Write the program that libFuzzer is, and that it starts again by itself to merge."""
    launcher = folder / f"fuzz-{name}"
    words = shlex.join([sys.executable, "-m", "tests.fuzz.run_command", "--here", name])
    launcher.write_text(f'#!/bin/sh\nexec {words} "$0" "$@"\n')
    launcher.chmod(0o700)
    return launcher


def fuzz(name: str, seconds: float) -> bool:
    """Fuzz one target for a while and keep what is new; return whether it held."""
    corpus, findings = CORPUS / name, FINDINGS / name
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        launcher = _write_launcher(Path(scratch), name)
        found = Path(scratch) / "found"
        found.mkdir()
        done = subprocess.run(
            [
                *(launcher, found, corpus),
                f"-max_total_time={max(1, int(seconds))}",
                f"-max_len={_MAX_BYTES.get(name, 1500)}",
                f"-timeout={_UNIT_TIMEOUT}",
                f"-artifact_prefix={findings}/",
                "-print_final_stats=1",
            ],
            check=False,
        )
        # What the tests replay stays small: only input that reaches something new.
        merge = ("-merge=1", "-set_cover_merge=1", "-verbosity=0", corpus, found)
        subprocess.run([launcher, *merge], check=True, stderr=subprocess.DEVNULL)
    if not any(findings.iterdir()):
        findings.rmdir()
    return done.returncode == 0


def main() -> int:
    """Fuzz what the command line asks for; 1 if anything was found."""
    if sys.argv[1:2] == ["--here"]:
        fuzz_here(sys.argv[2], sys.argv[3], sys.argv[4:])
        return 0
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="?", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("seconds", nargs="?", type=float, default=60.0, help="per target")
    chosen = parser.parse_args()
    names = list(TARGETS) if chosen.target == "all" else [chosen.target]
    held = {name: fuzz(name, chosen.seconds) for name in names}
    for name, is_well in held.items():
        print(f"{name}: {'nothing found' if is_well else f'FOUND, see {FINDINGS / name}'}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
