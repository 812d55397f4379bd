"""Namespaces for tests of what touches the kernel, built and gone within one child process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

_CHILD = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("checked", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["checked"] = module
spec.loader.exec_module(module)
print("RESULT " + json.dumps(getattr(module, sys.argv[2])(*json.loads(sys.argv[3]))))
"""


def _unshare() -> list[str]:
    namespaces = ["unshare", "--net", "--mount"]
    return namespaces if os.geteuid() == 0 else [*namespaces, "--user", "--map-root-user"]


@pytest.fixture(scope="session")
def namespace_command() -> list[str]:
    """The command prefix that runs something as root of new network and mount namespaces."""
    try:
        probe = subprocess.run(
            [*_unshare(), "ip", "link", "set", "lo", "up"],
            capture_output=True,
            check=False,
            text=True,
            timeout=20,
        )
    except FileNotFoundError as error:
        pytest.skip(f"no {error.filename} on this machine")
    if probe.returncode:
        pytest.skip(f"no network namespace can be made: {probe.stderr.strip()}")
    return _unshare()


@pytest.fixture
def in_namespace(
    namespace_command: list[str], request: pytest.FixtureRequest
) -> Callable[..., Any]:
    """Run a function of the test's module in a namespace; it gets and returns JSON values."""

    def run(function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - JSON values
        child = subprocess.run(
            [
                *namespace_command,
                *(sys.executable, "-W", "error", "-c", _CHILD),
                *(str(request.path), function.__name__, json.dumps(arguments)),
            ],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert child.returncode == 0, child.stderr
        [*_, result] = child.stdout.strip().splitlines()
        return json.loads(result.removeprefix("RESULT "))

    return run


@pytest.fixture
def needs_tap(namespace_command: list[str]) -> None:
    """Skip where there is no /dev/net/tun."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun on this machine")
