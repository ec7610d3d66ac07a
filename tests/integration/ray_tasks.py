"""Tasks that the workers of a Ray cluster import by their names."""

import os
import time
from datetime import date
from pathlib import Path

from prometheus_nt.domain.errors import InsufficientHistory


def double(number):
    return f"run-{2 * number}"


def refuse(_):
    # Its constructor takes other arguments than its message: pickled as it is, it cannot return.
    raise InsufficientHistory(date(2020, 1, 2), needed=5, available=1)


def die_at_three(number):
    if number == 3:
        os._exit(11)
    return double(number)


def stumble(number):
    raise ValueError(f"a bug at {number}")


def sleep(seconds):
    time.sleep(seconds)
    return "awake"


def leave_a_pid_and_sleep(path):
    Path(path).write_text(str(os.getpid()))
    return sleep(600)


def process_id(_):
    return str(os.getpid())
