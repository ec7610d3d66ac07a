"""What a META_BOOK sleeve follows: finished meta-portfolios, and all that their members decided."""

from datetime import date

from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.jobs.meta_members import Gathered, members_of
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.completeness import Sleeve
from prometheus_nt.meta.flattening import leaf_weights
from prometheus_nt.meta.member_books import BookSchedule, Weighing, decided_books
from strategies.catalog import SleeveParams


def followed_schedule(
    stores: Stores, config: NodeConfig, sleeve: SleeveParams, instruments: tuple[str, ...]
) -> BookSchedule:
    """Return the weighings that a sleeve follows, and every target that their members followed.

    Raises
    ------
    ConfigError
        If two weighings are of one day, or a member was run on other data than the node's.
    MetaFailure
        If a meta-portfolio, or anything below it, is not there as it was written, or did not pass.
    """
    weighings, sleeves = [], dict[str, Sleeve]()
    for meta_id in sleeve.metas:
        as_of, found = members_of(stores, meta_id)
        weighings.append(_weighing(meta_id, as_of, found))
        sleeves |= found.sleeves
    weighings.sort(key=lambda one: one.as_of)
    _require_one_a_day(weighings)
    _require_same_data(config, list(sleeves.values()))
    decided = {
        run_id: decided_books(run_id, stores.runtime.followed_targets(run_id), instruments)
        for run_id in sleeves
    }
    ends = {run_id: one.stream.sessions[-1].astype(object) for run_id, one in sleeves.items()}
    return BookSchedule(instruments, tuple(weighings), decided, ends)


def require_record(schedule: BookSchedule, start: date, end: date) -> None:
    """Require the weighings and the records of their members to reach over the sessions traded.

    Raises
    ------
    DataError
        If no weights are known on any of them, or a member is followed after its record ends.
    """
    first = schedule.weighings[0].as_of
    if first > end:
        raise DataError(
            f"sessions: end at {end}, before the first weights were decided at {first}; a book of "
            "cash is no backtest"
        )
    for number, weighing in enumerate(schedule.weighings):
        later = schedule.weighings[number + 1 :]
        until = min(end, later[0].as_of) if later else end
        if until < start:
            continue
        for run_id in weighing.shares:
            if schedule.ends[run_id] < until:
                raise DataError(
                    f"sessions: {run_id}, a member of {weighing.meta_id}, has a record until "
                    f"{schedule.ends[run_id]}, and is followed until {until}; run it to there and "
                    "make the meta-portfolio again, or set sessions.end"
                )


def book_notes(schedule: BookSchedule | None) -> list[str]:
    """Return what a reader must know of a book that follows meta-portfolios."""
    if schedule is None:
        return []
    told = ", ".join(f"{one.meta_id} from {one.as_of} on" for one in schedule.weighings)
    return [
        f"Meta-portfolio: holds what {len(schedule.decided)} finished runs hold by their targets, "
        f"at the weights of {told}; before that it holds cash. What the members' settings were "
        "chosen by is not told here."
    ]


def _weighing(meta_id: str, as_of: date, found: Gathered) -> Weighing:
    shares = leaf_weights(meta_id, found.metas, frozenset(found.sleeves))
    return Weighing(meta_id, as_of, shares)


def _require_one_a_day(weighings: list[Weighing]) -> None:
    days = [one.as_of for one in weighings]
    twice = sorted({str(day) for day in days if days.count(day) > 1})
    if twice:
        raise ConfigError(
            f"sleeves.metas: two are of {', '.join(twice)}; which of them is meant? name one"
        )


def _require_same_data(config: NodeConfig, sleeves: list[Sleeve]) -> None:
    wanted = (config.market, config.data.dataset)
    for sleeve in sleeves:
        found = (sleeve.data.market, sleeve.data.dataset)
        if found != wanted:
            raise ConfigError(
                f"sleeves.metas: {sleeve.run_id} was run on {' '.join(found)}, the node is of "
                f"{' '.join(wanted)}"
            )
