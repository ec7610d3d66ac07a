"""Questions in words, answered from the stores: no model, no guess, every answer with its rows.

1. `read` takes from a question what it names: dates, instruments, runs, fills, a region, a side.
2. The first tool of `TOOLS` whose words occur is asked; its parameters come from the question and
   from what the caller sends along.
3. An answer is what the tool's rows say, with the tool, its parameters and the rows as its source.
   Where no tool fits, or one lacks what it needs, the answer says what can be asked.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from persistence import watch
from persistence.desk_books import held_at, last_sessions, max_drawdown, newest_runs
from persistence.desk_live import accounts_of, traded_runs
from persistence.desk_trades import last_fill
from persistence.lineage import rows_behind
from persistence.listings import Filters
from persistence.pages import page_of_proposals, run_facts
from persistence.standing import Record, open_alerts, standing
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.errors import ConfigError, StoreError, StoreUnavailable
from prometheus_nt.jobs.safety import switch_state
from prometheus_nt.jobs.stores import Stores

MOST_ROWS = 10
DAYS_OF_FAILURES = 1
FIGURES = ("annualised_sharpe", "cagr", "max_drawdown")

_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_INSTRUMENT = re.compile(r"\b[A-Z][A-Z0-9\-]*\.[A-Z]{1,6}\b")
_TOKEN = re.compile(r"[\w.:#/\-]+")
_SIDES = {"sold": "SELL", "sell": "SELL", "bought": "BUY", "buy": "BUY"}


@dataclass(frozen=True)
class Question:
    """What a question says and names. names : whatever may be the id of a run or of a fill."""

    text: str
    words: frozenset[str]
    as_of: date | None
    instrument_id: str | None
    region: str | None
    strategy_id: str | None
    side: str | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class Reply:
    """What a tool found, in words, and the rows that say so."""

    text: str
    rows: Sequence[Mapping[str, Any]]
    query: Mapping[str, Any] = field(default_factory=dict)
    proposals: Sequence[Record] = ()


@dataclass(frozen=True)
class Tool:
    """Something that can be asked.

    words : sets of words; the tool is asked where any set occurs as a whole
    needs : parts of the question without which it cannot answer
    """

    name: str
    example: str
    words: tuple[frozenset[str], ...]
    ask: Callable[[Stores, Question], Reply]
    needs: tuple[str, ...] = ()


def read(text: str, context: Mapping[str, Any], today: date) -> Question:
    """Return what a question names; what it does not name is taken from the context.

    Raises
    ------
    ConfigError
        If a date of it is none.
    """
    words = frozenset(re.findall(r"[a-z]+", text.lower()))
    given = {name: str(value) for name, value in context.items() if value is not None}
    instrument = _INSTRUMENT.search(text)
    regions = [name for name in REGIONS if re.search(rf"\b{name}\b", text)]
    names = [token.strip(".:-/#") for token in _TOKEN.findall(text)]
    return Question(
        text=text,
        words=words,
        as_of=_date(text, words, given, today),
        instrument_id=instrument.group() if instrument else given.get("instrument_id"),
        region=regions[0] if regions else given.get("region"),
        strategy_id=given.get("strategy_id"),
        side=next((_SIDES[word] for word in _SIDES if word in words), None),
        names=tuple(name for name in (*names, given.get("run_id", "")) if len(name) > 3),
    )


def tool_for(question: Question) -> Tool | None:
    """Return the first tool whose words occur in a question."""
    return next(
        (tool for tool in TOOLS if any(wanted <= question.words for wanted in tool.words)), None
    )


def missing(tool: Tool, question: Question) -> list[str]:
    """Return what a tool needs and a question does not name."""
    return [name for name in tool.needs if not getattr(question, name)]


def _date(text: str, words: frozenset[str], given: Mapping[str, str], today: date) -> date | None:
    found = _DATE.search(text)
    said = found.group() if found else given.get("as_of", given.get("as_of_date"))
    if said is None:
        return today - timedelta(days=1) if "yesterday" in words else None
    try:
        return date.fromisoformat(said)
    except ValueError:
        raise ConfigError(f"question: {said!r} is no date; expected YYYY-MM-DD") from None


def _filters(question: Question, **others: Any) -> Filters:
    named = {"as_of": question.as_of, "strategy_id": question.strategy_id}
    return Filters(**{**named, "region": question.region, **others})


def _query(question: Question, *names: str) -> dict[str, Any]:
    return {name: getattr(question, name) for name in (*names, "as_of")}


def _regime(stores: Stores, question: Question) -> Reply:
    filters = _filters(question, limit=1)
    found, rows = standing(stores.runtime.database, "regimes", filters)
    query = _query(question, "region", "strategy_id")
    if found is None or not rows:
        return Reply("No regime has been recorded up to that session.", [], query)
    row = rows[0]
    text = (
        f"The regime of {row['region']} at {found.session} is {row['regime_label']}, with "
        f"confidence {row['confidence']:.0%}, by run {found.run_id}."
    )
    return Reply(text, rows, query)


def _positions(stores: Stores, question: Question) -> Reply:
    database = stores.runtime.database
    rows = []
    for run in newest_runs(database, _filters(question)):
        held = held_at(database, run, question.as_of)
        rows += [
            {
                "run_id": run["run_id"],
                "session": held.session,
                "instrument_id": row["instrument_id"],
                "market_value": row["market_value"],
                "weight": row["market_value"] / held.equity if held.equity else None,
            }
            for row in ([] if held is None else held.rows)
            if held is not None
        ]
    rows.sort(key=lambda row: -abs(row["market_value"]))
    rows = rows[:MOST_ROWS]
    told = ", ".join(f"{row['instrument_id']} ({row['market_value']:,.0f} USD)" for row in rows)
    text = f"The largest positions are {told}." if rows else "Nothing is held at that session."
    return Reply(text, rows, _query(question, "region", "strategy_id"))


def _drawdown(stores: Stores, question: Question) -> Reply:
    database = stores.runtime.database
    runs = [run["run_id"] for run in newest_runs(database, _filters(question))]
    ended = last_sessions(database, runs, question.as_of)
    falls: list[dict[str, Any]] = [
        {"run_id": run_id, "session": last, "max_drawdown": max_drawdown(database, [run_id], last)}
        for run_id, last in sorted(ended.items())
    ]
    known = [row for row in falls if row["max_drawdown"] is not None]
    known.sort(key=lambda row: row["max_drawdown"])
    query = _query(question, "region", "strategy_id")
    if not known:
        return Reply("No equity has been recorded up to that session.", falls, query)
    worst = known[0]
    text = (
        f"The deepest fall is {worst['max_drawdown']:.1%}, of {worst['run_id']} up to "
        f"{worst['session']}."
    )
    return Reply(text, known, query)


def _why_traded(stores: Stores, question: Question) -> Reply:
    database = stores.runtime.database
    runs = [run["run_id"] for run in newest_runs(database, _filters(question))]
    before = None
    if question.as_of is not None:
        before = datetime.combine(question.as_of + timedelta(days=1), time(), UTC)
    fill = last_fill(
        *(database, runs, str(question.instrument_id)), side=question.side, before=before
    )
    query = _query(question, "instrument_id", "side", "strategy_id")
    if fill is None:
        return Reply(f"No such trade of {question.instrument_id} is recorded.", [], query)
    return _explained(stores, fill["fill_id"], query)


def _explain(stores: Stores, question: Question) -> Reply:
    named = [name for name in question.names if "#" in name]
    if not named:
        return Reply("Name the fill: its id ends with `#` and a number.", [], {"fill_id": None})
    try:
        return _explained(stores, named[0], {"fill_id": named[0]})
    except StoreUnavailable:
        raise
    except StoreError:
        return Reply(f"No fill {named[0]} is recorded.", [], {"fill_id": named[0]})


def _explained(stores: Stores, fill_id: str, query: Mapping[str, Any]) -> Reply:
    found = rows_behind(stores.runtime.database, fill_id)
    fill, decision, target = found["fill"], found["decision"], found.get("target")
    parts = [
        f"{fill['side']} {fill['quantity']:,.0f} {fill['instrument_id']} at {fill['price']:,.2f} "
        f"on {fill['timestamp']:%Y-%m-%d}"
    ]
    rows: list[Mapping[str, Any]] = [fill]
    if decision is None:
        parts.append("no decision is stored for its order")
    else:
        rows.append(decision)
        parts.append(f"decided after the close of {decision['as_of_date']}")
    if target is not None:
        weight = target["target_positions"]["weights"].get(fill["instrument_id"], 0.0)
        parts.append(f"when the target was {weight:.1%} of the book")
        rows.append({"as_of_date": target["as_of_date"], "target_weight": weight})
    for action in found.get("risk_actions", []):
        rows.append(action)
        parts.append(f"risk: {action['action_type']}")
    return Reply("; ".join(parts) + ".", rows, {**query, "fill_id": fill_id})


def _why_excluded(stores: Stores, question: Question) -> Reply:
    filters = _filters(question, entity_id=question.instrument_id, limit=1)
    found, rows = standing(stores.runtime.database, "universe-members", filters)
    query = _query(question, "instrument_id", "strategy_id")
    if found is None or not rows:
        text = f"{question.instrument_id} was no candidate of a universe up to that session."
        return Reply(text, [], query)
    row = rows[0]
    place = "in" if row["included"] else "left out of"
    why = ", ".join(f"{name}: {value}" for name, value in (row["reasons"] or {}).items())
    text = (
        f"{question.instrument_id} was {place} the universe at {found.session}, tier "
        f"{row['tier']}; {why or 'no reason is recorded'}."
    )
    return Reply(text, rows, query)


def _failures(stores: Stores, question: Question) -> Reply:
    database = stores.runtime.database
    now = datetime.now(UTC)
    since = now - timedelta(days=DAYS_OF_FAILURES)
    if question.as_of is not None:
        since = datetime.combine(question.as_of, time(), UTC)
    days = [{"what": "day", **row} for row in watch.failed_days(database, since)]
    jobs = [{"what": "job", **row} for row in watch.failed_jobs(database, since)]
    alerts = [dict(row) for row in open_alerts(database, MOST_ROWS)]
    text = (
        f"Since {since:%Y-%m-%d %H:%M} UTC {len(days)} days and {len(jobs)} jobs failed; "
        f"{len(alerts)} alerts are open."
    )
    worst = [str(row["message"]) for row in (*jobs, *alerts) if row["message"]]
    told = f" First: {worst[0]}." if worst else ""
    return Reply(text + told, [*days, *jobs, *alerts][: 3 * MOST_ROWS], {"since": since})


def _compare(stores: Stores, question: Question) -> Reply:
    names = [name for name in question.names if "-" in name][: 2 * MOST_ROWS]
    found = {row["run_id"]: row for row in run_facts(stores.runtime.database, names)}
    rows: list[dict[str, Any]] = [
        {"run_id": name, **{one: (found[name]["metrics_json"] or {}).get(one) for one in FIGURES}}
        for name in dict.fromkeys(names)
        if name in found
    ]
    query = {"run_id": [row["run_id"] for row in rows]}
    if len(rows) < 2:
        return Reply("Name two runs by their ids; /api/runs lists them.", rows, query)
    told = "; ".join(
        f"{row['run_id']}: " + ", ".join(f"{one} {_number(row[one])}" for one in FIGURES)
        for row in rows
    )
    text = f"{told}. /api/compare says how much of the difference may be luck."
    return Reply(text, rows, query)


def _desk(stores: Stores, _question: Question) -> Reply:
    runs = traded_runs(stores.runtime.database)
    accounts = accounts_of(stores.runtime.database, [run["run_id"] for run in runs])
    rows = [
        {
            "run_id": run["run_id"],
            "sleeve_id": run["sleeve_id"],
            "mode": run["mode"],
            "switch": switch_state(stores, run["sleeve_id"]).state.value,
            "equity": accounts.get(run["run_id"], {}).get("equity"),
        }
        for run in runs
    ]
    told = "; ".join(f"{row['sleeve_id']} on {row['mode']}: {row['switch']}" for row in rows)
    text = f"{told}." if rows else "Nothing trades on paper or live."
    return Reply(f"{text} The switch of all: {switch_state(stores).state.value}.", rows)


def _proposals(stores: Stores, question: Question) -> Reply:
    wanted = {"status": "PENDING", "strategy_id": question.strategy_id}
    rows = page_of_proposals(stores.runtime.database, wanted, 0, MOST_ROWS)
    count = "No proposal waits" if not rows else f"{len(rows)} proposals wait"
    text = (
        f"{count} for a decision. New ones come from trials alone: "
        "POST /api/intelligence/proposals/generate/{strategy_id}."
    )
    told = ("proposal_id", "strategy_id", "target_component", "rationale", "status")
    return Reply(text, [{name: row[name] for name in told} for row in rows], wanted, rows)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _any(*sets: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(words.split()) for words in sets)


TOOLS: tuple[Tool, ...] = (
    Tool("compare_runs", "compare RUN_A with RUN_B", _any("compare"), _compare),
    Tool("explain_fill", "explain RUN:7#1", _any("explain", "lineage"), _explain),
    Tool(
        "why_excluded",
        "why is AAPL.US excluded?",
        _any("excluded", "why universe", "why not", "eligible", "left out"),
        _why_excluded,
        ("instrument_id",),
    ),
    Tool(
        "why_traded",
        "why was AAPL.US sold?",
        _any("why sold", "why bought", "why sell", "why buy", "why traded"),
        _why_traded,
        ("instrument_id",),
    ),
    Tool("worst_drawdown", "what is the worst drawdown?", _any("drawdown", "fall"), _drawdown),
    Tool("what_failed", "what failed today?", _any("failed", "fail", "wrong", "errors"), _failures),
    Tool(
        "open_proposals",
        "what should be changed?",
        _any("proposals", "propose", "suggest", "improve", "changed", "config"),
        _proposals,
    ),
    Tool("desk_now", "what trades, and is anything halted?", _any("halted", "trades"), _desk),
    Tool(
        "largest_positions",
        "what are the largest positions?",
        _any("positions", "holdings", "largest", "hold"),
        _positions,
    ),
    Tool("regime_now", "what is the regime of US?", _any("regime"), _regime),
)
"""What can be asked; of several that fit, the first answers."""
