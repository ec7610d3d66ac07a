"""Every script in `examples/` runs and says something."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "script", sorted(Path("examples").glob("*.py")), ids=lambda path: path.name
)
def test_an_example_runs(script):
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2
