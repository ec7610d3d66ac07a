"""Processes that tests kill, forked from one that has imported what they need."""

import asyncio
import multiprocessing
import sys
from collections.abc import Callable

PRELOADED = ["adapters.ib.desk", "prometheus_nt.jobs.ib_venue", "prometheus_nt.jobs.paper"]


class Forked:
    """A process that runs a function of a module and exits with what it returns."""

    def __init__(self, main: Callable[..., int | None], *arguments: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=_exit_with, args=(main, *arguments))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    async def wait(self) -> int:
        while self.returncode is None:
            await asyncio.sleep(0.005)
        return self.returncode


def _exit_with(main: Callable[..., int | None], *arguments: str) -> None:
    sys.exit(main(*arguments))
