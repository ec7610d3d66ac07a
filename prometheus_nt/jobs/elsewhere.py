"""What a function finds, from a process that ends: the memory that it needed goes with it."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prometheus_nt.domain.errors import PrometheusError

PATIENCE_SECONDS = 600.0

Given = ParamSpec("Given")
Found = TypeVar("Found")


def found_elsewhere(
    function: Callable[Given, Found], *given: Given.args, **named: Given.kwargs
) -> Found:
    """Return what a function of a module returns, or raise what it raises, of its own process.

    Raises
    ------
    PrometheusError
        If the function raised one, or the process failed.
    """
    asked = pickle.dumps((function, given, named))
    command = [sys.executable, "-m", __name__]
    try:
        ended = subprocess.run(
            command, input=asked, capture_output=True, check=True, timeout=PATIENCE_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as failed:
        told = (getattr(failed, "stderr", None) or b"").decode(errors="replace").splitlines()
        raise PrometheusError(
            f"{function.__name__}: its process failed: {'; '.join([str(failed), *told[-1:]])}"
        ) from failed
    kind, found = pickle.loads(ended.stdout)
    if kind is not None:
        raise kind(found)
    result: Found = found
    return result


def _answer(asked: bytes) -> bytes:
    """Return None and what was found, or the kind of error and what it says."""
    function, given, named = pickle.loads(asked)
    try:
        return pickle.dumps((None, function(*given, **named)))
    except PrometheusError as refused:
        return pickle.dumps((_plain_kind(type(refused)), str(refused)))


def _plain_kind(kind: type[PrometheusError]) -> type[PrometheusError]:
    """Return the nearest kind of error that is made of a message alone."""
    ours = [each for each in kind.__mro__ if issubclass(each, PrometheusError)]
    made = [row for row, each in enumerate(ours) if "__init__" in vars(each)]
    return ours[made[-1] + 1] if made else kind


if __name__ == "__main__":
    sys.stdout.buffer.write(_answer(sys.stdin.buffer.read()))
