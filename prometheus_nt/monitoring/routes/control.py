"""Control: what an operator asks the system to do; each call becomes a job, or is refused."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.nodes import node_file
from prometheus_nt.jobs.queue import Terms
from prometheus_nt.monitoring.access import Role
from prometheus_nt.monitoring.answers import Name
from prometheus_nt.monitoring.desk import Asking, Desk, OurDesk, needs
from prometheus_nt.monitoring.routes.jobs import JobDetail, Submitted, detail, submitted

router = APIRouter(prefix="/api/control", tags=["control"])
OPERATE = [Depends(needs(Role.OPERATE))]

MOST_PATHS = 1_000_000
SECTIONS = ("engines", "execution", "gate")

Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\w.:/\- ]+$")]


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BacktestCall(_Call):
    """Run a strategy over recorded history.

    config : names of files in the configuration folder; by default the strategy's own.
    market_ids : the node's market must be it; empty is any.
    config_overrides : dotted settings, or nested ones, over the file's.
    force : run again what is recorded.
    """

    strategy_id: Text
    start_date: date | None = None
    end_date: date | None = None
    market_ids: list[Text] = Field(default_factory=list, max_length=10)
    config_overrides: dict[str, Any] = Field(default_factory=dict)
    config: list[Text] = Field(default_factory=list, max_length=10)
    force: bool = False


class DatasetCall(_Call):
    """Make a set of joint futures from a dataset's past.

    scenario_type : HISTORICAL, BOOTSTRAP, and so on.
    num_samples : paths.
    parameters : `dataset`, `as_of` and `run`, and the generator's own, such as `horizon`.
    """

    dataset_name: Text
    scenario_type: Text
    num_samples: Annotated[int, Field(ge=1, le=MOST_PATHS)] = 1000
    parameters: dict[str, Any] = Field(default_factory=dict)


class DagCall(_Call):
    """Take a session of a strategy through all its phases.

    dag_name : the strategy, or the market's day, such as `us_eq_daily`.
    force : also if the same session was asked for before; a run that failed goes on.
    parameters : `as_of` (today's or the newest session by default), `strategy_id`, `config`.
    """

    market_id: Text
    dag_name: Text
    force: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict)


class ChangeCall(_Call):
    """Propose a setting of a strategy, by trying it first.

    engine_name : a section below `engines`, or `execution` or `gate`.
    requires_approval : false applies it without asking, if the trial is better beyond doubt and
        nothing vetoes it; otherwise it waits for a person all the same.
    """

    engine_name: Text
    config_key: Text
    config_value: Any
    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    requires_approval: bool = True
    strategy_id: Text | None = None
    config: list[Text] = Field(default_factory=list, max_length=10)


@router.post("/run_backtest", status_code=202, dependencies=OPERATE)
def run_backtest(desk: OurDesk, who: Asking, call: BacktestCall) -> Submitted:
    """Run a strategy over recorded history; settings are checked before anything is kept."""
    files = _files(desk, call.config, call.strategy_id, call.market_ids)
    spec: dict[str, Any] = {"config": files, "overrides": call.config_overrides}
    spec |= {"force": call.force}
    days = {"start": call.start_date, "end": call.end_date}
    spec |= {name: day.isoformat() for name, day in days.items() if day is not None}
    return submitted(desk, who, "backtest", spec)


@router.post("/create_synthetic_dataset", status_code=202, dependencies=OPERATE)
def create_synthetic_dataset(desk: OurDesk, who: Asking, call: DatasetCall) -> Submitted:
    """Generate a scenario set."""
    given = dict(call.parameters)
    dataset = given.pop("dataset", None) or _only_dataset(desk)
    outer: dict[str, Any] = {name: given.pop(name) for name in ("as_of", "run") if name in given}
    params = {
        **given,
        "name": call.dataset_name,
        "category": call.scenario_type.upper(),
        "paths": call.num_samples,
    }
    return submitted(desk, who, "scenario_set", {"dataset": dataset, "params": params, **outer})


@router.post("/schedule_dag", status_code=202, dependencies=OPERATE)
def schedule_dag(desk: OurDesk, who: Asking, call: DagCall) -> Submitted:
    """Take a session of a strategy to its end; the same session twice is one job, unless forced."""
    given = dict(call.parameters)
    files = given.pop("config", [])
    strategy_id = given.pop("strategy_id", None) or _strategy_of(call)
    as_of = _session(call.market_id, given.pop("as_of", None))
    if given:
        raise ConfigError(
            f"parameters: unknown: {', '.join(sorted(given))}; known: as_of, config, strategy_id"
        )
    names = [files] if isinstance(files, str) else files
    spec = {"config": _files(desk, names, strategy_id, [call.market_id]), "as_of": f"{as_of}"}
    key = None if call.force else f"{call.market_id}:{call.dag_name}:{strategy_id}:{as_of}"
    return submitted(desk, who, "day", spec | {"roll_back": True}, Terms(key=key))


@router.post("/apply_config_change", status_code=202, dependencies=OPERATE)
def apply_config_change(desk: OurDesk, who: Asking, call: ChangeCall) -> Submitted:
    """Try a change of a setting and propose it; `POST /api/intelligence/...` decides on it."""
    section = call.engine_name.lower()
    prefix = section if section.partition(".")[0] in SECTIONS else f"engines.{section}"
    if not (call.config or call.strategy_id):
        raise ConfigError("strategy_id: whose setting? name the strategy, or config, its files")
    spec = {
        "config": _files(desk, call.config, call.strategy_id or "", []),
        "key": f"{prefix}.{call.config_key}",
        "value": call.config_value,
        "why": call.reason,
        "apply": not call.requires_approval,
    }
    made = submitted(desk, who, "propose", spec)
    waits = "then waits for a decision" if call.requires_approval else "then is applied if better"
    told = f"{spec['key']}: tried first, {waits}; {made.message}"
    status = "STAGED" if call.requires_approval else made.status
    return Submitted(job_id=made.job_id, status=status, message=told)


@router.get("/jobs/{job_id}")
def control_job(desk: OurDesk, job_id: Name) -> JobDetail:
    """Return a job as it stands; one that is not there is 404."""
    return detail(desk, job_id)


def _files(desk: Desk, given: list[str], strategy_id: str, markets: list[str]) -> list[str]:
    return list(given) or [node_file(desk.settings, strategy_id, markets)]


def _only_dataset(desk: Desk) -> str:
    known = [row["dataset_id"] for row in desk.stores.historical.datasets()]
    if len(known) != 1:
        told = ", ".join(known) or "none"
        raise ConfigError(f"parameters.dataset: whose past? known: {told}")
    return str(known[0])


def _strategy_of(call: DagCall) -> str:
    if call.dag_name.lower().startswith(f"{call.market_id.lower()}_daily"):
        raise ConfigError(
            "parameters.strategy_id: a market's day is run for a strategy; name it, or give it as "
            "dag_name"
        )
    return call.dag_name


def _session(market_id: str, given: Any) -> date:
    if given is None:
        return MarketCalendar.of(market_id).roll_back(datetime.now(UTC).date())
    try:
        return date.fromisoformat(str(given))
    except ValueError:
        raise ConfigError(f"parameters.as_of: {given!r}: expected YYYY-MM-DD") from None
