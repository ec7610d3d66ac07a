"""What it costs to have every event of a paper session on the disk before the next step.

Processor time per event of building a phase's rows and events and committing them, in memory's own
file system where there is one: what remains is our work, not the disk's. The disk's part, one
flush a phase, is printed beside it. Example: python benchmarks/record.py
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from workload import market, node

from persistence import schema
from persistence.database import Database
from persistence.leases import Lease
from persistence.live_mirror import Phase
from persistence.recorder import RunRecorder
from persistence.spool import Spool
from prometheus_nt.domain.runs import Mode, TradingIdentity
from prometheus_nt.jobs.collector import calm_collector
from prometheus_nt.jobs.wiring import PaperRecord, Recorded, wire_paper
from prometheus_nt.venue.carry import Delistings

MAX_MICROSECONDS = 100.0
"""Of processor time for each event, flushing aside."""

SESSIONS, FIRST_ROW = 700, 300
TRIALS = 3
"""The quickest of these counts: a busy machine makes work look longer, never shorter."""
IN_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Cost:
    """Events written, and the processor seconds that the parts of the work took."""

    events: int
    phases: int
    run: float
    build: float
    commit: float


def main() -> None:
    """Print the cost of the record, and fail if an event costs more than the limit."""
    folder = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as scratch, calm_collector():
        costs = [_measured(Path(scratch) / str(trial)) for trial in range(TRIALS)]
    cost = min(costs, key=lambda each: each.build + each.commit)
    per_event = 1e6 * (cost.build + cost.commit) / cost.events
    flush = _flush_seconds()
    print(f"{cost.events} events in {cost.phases} phases")
    print(f"record / run without it:        {(cost.build + cost.commit) / cost.run:.2f}")
    print(f"flush of a phase / its record:  {flush * cost.phases / (cost.build + cost.commit):.2f}")
    print(f"us per event / limit of {MAX_MICROSECONDS:.0f}:    {per_event / MAX_MICROSECONDS:.2f}")
    if per_event > MAX_MICROSECONDS:
        sys.exit(1)


def _measured(scratch: Path) -> Cost:
    panel, config = market(instruments=200, sessions=SESSIONS), node()
    sleeve = config.sleeves[0].model_copy(update={"rebalance": "weekly"})
    identity = TradingIdentity("US", "BENCH", Mode.PAPER, "c", "h", "d", 0, date(2010, 1, 4))
    nobody = Delistings.unrecorded(len(panel.instruments))
    delistings = Delistings(nobody.on, nobody.returns, final=False)
    began_at = datetime(2010, 1, 4, tzinfo=UTC)
    record = PaperRecord(began_at)
    paper = wire_paper(config, sleeve, panel, identity, Recorded(delistings), record)
    paper.mirror.attach(paper.engine.kernel.msgbus)
    paper.feed.begin()
    spent = {"run": 0.0, "build": 0.0}
    phases: list[Phase] = []

    def clocked(part: str, work: object) -> object:
        begun = time.process_time()
        found = work()  # type: ignore[operator]
        spent[part] += time.process_time() - begun
        return found

    for row in range(FIRST_ROW, SESSIONS):
        session = panel.sessions[row].astype(object)
        clocked("run", lambda row=row: paper.feed.open_session(row))
        phases.append(clocked("build", lambda day=session: paper.mirror.phase(day, "OPEN")))
        clocked("run", lambda row=row: paper.feed.close_session(row))
        phases.append(clocked("build", lambda day=session: paper.mirror.phase(day, "CLOSE")))
    paper.close()
    commit = min(_commit(scratch / str(trial), identity.run_id, phases) for trial in range(TRIALS))
    events = sum(len(phase.events) for phase in phases)
    return Cost(events, sum(map(bool, (phase.events for phase in phases))), commit=commit, **spent)


def _commit(scratch: Path, run_id: str, phases: list[Phase]) -> float:
    recorder = _recorder(scratch, run_id)
    begun = time.process_time()
    for phase in phases:
        recorder.commit(phase)
    return time.process_time() - begun


def _recorder(scratch: Path, run_id: str) -> RunRecorder:
    database = Database.open(f"sqlite:///{scratch}/runtime.db")
    schema.upgrade(database, "runtime")
    lease = Lease(run_id, "benchmark", str(scratch))
    recorder = RunRecorder(database, Spool(scratch / "outbox.spool"), lease)
    recorder.open()
    return recorder


def _flush_seconds(times: int = 50) -> float:
    """Return the median seconds that the disk of the temporary folder takes to flush a page."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(times):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return sorted(taken)[times // 2]


if __name__ == "__main__":
    main()
