"""Every command that the README shows is one that the program understands."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from prometheus_nt.cli import app

pytestmark = pytest.mark.integration

BLOCKS = re.findall(r"```\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL)
LINES = "".join(BLOCKS).replace("\\\n", " ").splitlines()
COMMANDS = [line.split("#")[0].strip() for line in LINES if line.startswith("prometheus ")]
TARGETS = [line.split()[1] for line in LINES if line.startswith("make ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_parses(command):
    arguments = shlex.split(command)[1:]
    group = typer.main.get_command(app)

    context = None
    while arguments and hasattr(group, "commands") and arguments != ["--help"]:
        context = typer.Context(group, info_name="prometheus", parent=context)
        _, group, arguments = group.resolve_command(context, arguments)

    if arguments != ["--help"]:
        parsed = group.make_context("prometheus", arguments, parent=context)
        assert parsed.params


def test_every_make_target_of_the_readme_exists():
    targets = re.findall(r"^([a-z]+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(TARGETS) <= set(targets)
    assert {"demo", "test"} <= set(TARGETS)
    assert len(COMMANDS) >= 10
