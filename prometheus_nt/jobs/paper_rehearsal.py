"""Try a paper run on a copy of its files: nothing is leased, nothing is written to a database."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from persistence.answer_tape import AnswerTape
from persistence.live_mirror import Phase
from persistence.spool import Spool
from persistence.tape import SessionTape
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.jobs.paper_data import paper_panel
from prometheus_nt.jobs.paper_desk import Desk
from prometheus_nt.jobs.paper_identity import (
    first_session,
    open_run_start,
    trading_identity,
)
from prometheus_nt.jobs.paper_request import PaperRequest
from prometheus_nt.jobs.paper_run import (
    ANSWERS,
    SWITCH,
    TAPE,
    history_before,
    run_dir,
)
from prometheus_nt.jobs.paper_switch import PaperSwitch
from prometheus_nt.jobs.paper_trader import PaperTrader, TraderFiles
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import PaperVenue, SandboxVenue
from strategies.catalog import SleeveParams


class _Rehearsed:
    """A record that keeps nothing: two phases for each session that was recorded, then new ones."""

    waiting_bytes = 0

    def __init__(self, sessions: int) -> None:
        self._left = 2 * sessions

    @property
    def verifying(self) -> bool:
        return self._left > 0

    def commit(self, _phase: Phase) -> None:
        self._left -= 1

    def idle(self) -> None:
        pass

    def drain(self) -> bool:
        return True


@contextmanager
def rehearsal(
    config: NodeConfig,
    sleeve: SleeveParams,
    stores: Stores,
    start: date | None,
    venue: PaperVenue,
) -> Iterator[PaperTrader]:
    """Yield the trader of a run on a copy of its files, before its first session.

    It asks for no lease and writes to no database. Without a run it begins one at `start`, or at
    the newest session of the dataset. `venue` is one that nothing leaves by.
    """
    panel = paper_panel(config, stores)
    asked = start or open_run_start(config, sleeve, stores) or panel.as_of
    identity = trading_identity(config, sleeve, panel, first_session(config, panel, asked))
    with ExitStack() as files:
        folder = Path(files.enter_context(TemporaryDirectory(prefix="prometheus-rehearsal-")))
        kept = run_dir(stores, identity.run_id, config.mode)
        names = (TAPE, SWITCH, ANSWERS)
        tape_file, moves, answers = (_copied(kept / name, folder / name) for name in names)
        for spool in (tape_file, moves, answers):
            files.callback(spool.close)
        tape = SessionTape(tape_file)
        if not tape.begun:
            tape.begin(history_before(panel, identity.started))
        calendar = MarketCalendar.of(config.market)
        switch = PaperSwitch(stores, sleeve.sleeve_id, calendar, moves, read_only=True)
        copies = TraderFiles(_Rehearsed(len(tape.sessions)), tape, switch, AnswerTape(answers))
        trader = PaperTrader(config, sleeve, stores, identity, copies, venue)
        files.callback(trader.close)
        yield trader


def rehearse_stored(
    config: NodeConfig, stores: Stores, trader: PaperTrader, now: Callable[[], datetime]
) -> None:
    """Run a rehearsal through its tape, and then through what the dataset has besides."""
    Desk(config, stores, PaperRequest(), [trader], SandboxVenue(), now).trade_stored(Event(), None)


def _copied(kept: Path, copy: Path) -> Spool:
    if kept.exists():
        shutil.copyfile(kept, copy)
    return Spool(copy)
