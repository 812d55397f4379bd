"""Whether this CPU has AES instructions, which decides the suite; docs/protocol.md section 5."""

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def has_aes_instructions(cpuinfo: str | None = None) -> bool:
    """Return whether the kernel lists ``aes`` among the CPU's features (x86 and ARM name it so)."""
    if cpuinfo is None:
        try:
            cpuinfo = _CPUINFO.read_text(errors="replace")
        except OSError:
            return False  # ChaCha20 is fast everywhere, AES without instructions is not
    for line in cpuinfo.splitlines():
        name, _, values = line.partition(":")
        if name.strip().lower() in {"flags", "features"}:
            return "aes" in values.split()
    return False
