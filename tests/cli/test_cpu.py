"""Which CPUs have AES instructions, by what their kernels say."""

from mesh.cli.cpu import has_aes_instructions


def test_x86_lists_aes_among_its_flags() -> None:
    assert has_aes_instructions("processor\t: 0\nflags\t\t: fpu sse2 aes avx\n")
    assert not has_aes_instructions("processor\t: 0\nflags\t\t: fpu sse2 vaesx\n")


def test_arm_lists_aes_among_its_features() -> None:
    assert has_aes_instructions("Features\t: fp asimd aes pmull\n")
    assert not has_aes_instructions("Features\t: half thumb neon\n")


def test_an_unknown_cpu_has_none() -> None:
    assert not has_aes_instructions("")
