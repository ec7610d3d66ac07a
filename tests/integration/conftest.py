"""Markets and nodes that the whole-run tests share."""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.sample import sample_ohlcv
from persistence import schema
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from prometheus_nt.actors.pipeline import Stage
from prometheus_nt.cli import main
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.books import BookTarget, TargetPortfolio
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import content_hash
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.engines.risk import RiskParams, apply_limits
from prometheus_nt.jobs import wiring
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.stores import Stores, upgrade_schemas
from prometheus_nt.jobs.wiring import BacktestNode, Recorded, wire_backtest
from prometheus_nt.settings import Settings
from prometheus_nt.venue.carry import Delistings

FIRST = date(2010, 1, 4)


def random_market(instruments: int = 12, sessions: int = 320, seed: int = 3) -> MarketPanel:
    """Return a market with gaps, a halt, late listings, a delisting, splits and dividends."""
    rng = np.random.default_rng(seed)
    shape = (sessions, instruments)
    days = MarketCalendar.of("US_EQ").between(FIRST, date(2014, 12, 31))[:sessions]
    moves = rng.standard_t(5, shape) * 0.012 + rng.standard_normal((sessions, 1)) * 0.006
    close = rng.uniform(20, 120, instruments) * np.exp(np.cumsum(moves, axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.standard_normal(shape) * 0.006)
    split, dividend = np.ones(shape), np.zeros(shape)
    split[200, 1], split[260, 2] = 2.0, 3.0
    dividend[120::60, 3] = 0.4
    shares = np.cumprod(split, axis=0)
    bars = {
        "open": open_,
        "high": np.maximum(open_, close) * (1 + rng.uniform(0, 0.012, shape)),
        "low": np.minimum(open_, close) * (1 - rng.uniform(0, 0.012, shape)),
        "close": close,
    }
    arrays = {name: (prices / shares).round(4) for name, prices in bars.items()}
    arrays["volume"] = rng.uniform(1e5, 1e6, shape).round()
    missing = rng.random(shape) < 0.01
    missing[270:290, 4] = True
    missing[:90, 5] = True
    missing[300:, 6] = True
    for name in arrays:
        arrays[name][missing] = np.nan
    names = tuple(f"N{number:02d}.US" for number in range(instruments))
    fingerprint = content_hash([arrays["close"]])
    return MarketPanel(
        sessions=days,
        instruments=names,
        split=split,
        dividend=dividend,
        fingerprint=fingerprint,
        **arrays,
    )


@pytest.fixture(scope="session")
def market() -> MarketPanel:
    return random_market()


def node_config(**sections: Any) -> NodeConfig:
    """Return a node whose engines warm up within the small market."""
    settings: dict[str, Any] = {
        "sessions": {"start": FIRST},
        "data": {"dataset": "random"},
        "without": ["profiles", "regime", "fragility"],
        "sleeves": [{"horizon": 5, "capital_usd": 1_000_000}],
        "engines": {
            "stability": {"lookback": 21, "min_observations": 10},
            "assessment": {"momentum_lookback": 42, "momentum_skip": 5},
            "universe": {"min_history_sessions": 30},
            "portfolio": {"max_names": 5, "max_weight": 0.25},
            "risk": {"max_abs_weight_per_name": 0.25},
        },
    }
    return NodeConfig.model_validate(settings | sections)


def run_node(
    config: NodeConfig,
    panel: MarketPanel,
    last: int | None = None,
    first: int = 0,
    delistings: Delistings | None = None,
) -> BacktestNode:
    """Run the first sleeve of a node over the rows of a panel and return it, finished."""
    sleeve = config.sleeves[0]
    identity = RunIdentity("US_CORE_LONG_EQ", sleeve.sleeve_id, Mode.BACKTEST, "c", "h", "d", 0)
    node = wire_backtest(config, sleeve, panel, identity, recorded=Recorded(delistings))
    node.mirror.attach(node.engine.kernel.msgbus)
    node.feed.run(first, len(panel) - 1 if last is None else last)
    node.mirror.require_same_books()
    return node


def fills_of(node: BacktestNode) -> list[tuple[Any, ...]]:
    """Return what filled: when, what, which side, how much, at what price and fee."""
    return [
        (fill.ts_ns, fill.order.column, fill.order.side, fill.quantity, fill.price, fill.commission)
        for fill in node.mirror.fills
    ]


def with_rows_replaced(panel: MarketPanel, after: int, seed: int) -> MarketPanel:
    """Return the panel with every field of every row later than `after` replaced by noise.

    A name that never trades again stays so: its delisting is an event of the past.
    """
    rng = np.random.default_rng(seed)
    arrays = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    shape = arrays["close"][after + 1 :].shape
    known = panel.close[: after + 1]
    level = (np.nansum(known, axis=0) + 50.0) / (np.isfinite(known).sum(axis=0) + 1)
    close = level * np.exp(np.cumsum(rng.standard_normal(shape) * 0.03, axis=0))
    arrays["close"][after + 1 :] = close
    arrays["open"][after + 1 :] = close * rng.uniform(0.9, 1.1, shape)
    arrays["high"][after + 1 :] = close * 1.2
    arrays["low"][after + 1 :] = close * 0.8
    arrays["volume"][after + 1 :] = rng.uniform(1e5, 1e7, shape)
    arrays["dividend"][after + 1 :] = rng.uniform(0, 2, shape)
    gone = np.isnan(panel.close[after:]).all(axis=0)
    missing = (rng.random(shape) < 0.05) | gone
    for name in ("open", "high", "low", "close", "volume"):
        arrays[name][after + 1 :][missing] = np.nan
    return MarketPanel(
        sessions=panel.sessions,
        instruments=panel.instruments,
        fingerprint="perturbed",
        **arrays,
    )


@pytest.fixture
def run() -> Callable[..., BacktestNode]:
    return run_node


@pytest.fixture
def configured() -> Callable[..., NodeConfig]:
    return node_config


@pytest.fixture
def fills() -> Callable[[BacktestNode], list[tuple[Any, ...]]]:
    return fills_of


@pytest.fixture
def perturbed() -> Callable[[MarketPanel, int, int], MarketPanel]:
    return with_rows_replaced


@contextmanager
def a_fixed_book(weights: dict[str, float]) -> Iterator[None]:
    """Replace the day's table by one row that asks for the same weights after every close."""

    def hold(panel: MarketPanel, params: RiskParams) -> TargetPortfolio:
        wanted = np.array([weights.get(name, 0.0) for name in panel.instruments])
        book = BookTarget(
            as_of=panel.as_of,
            book_id="US_CORE_LONG_EQ_H63_PORTFOLIO",
            instruments=panel.instruments,
            weights=wanted,
            expected_return=None,
            binding=(),
        )
        return apply_limits(panel, book, params)

    table = wiring.PIPELINE
    wiring.PIPELINE = (Stage("risk", hold, (MarketPanel,), TargetPortfolio),)
    try:
        yield
    finally:
        wiring.PIPELINE = table


@pytest.fixture
def fixed_book() -> Callable[[dict[str, float]], AbstractContextManager[None]]:
    return a_fixed_book


@pytest.fixture(scope="session")
def sample_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a historical database with the bundled sample; copy it to change it."""
    path = tmp_path_factory.mktemp("sample") / "historical.db"
    database = Database.open(f"sqlite:///{path}")
    schema.upgrade(database, "historical")
    ingest(sample_ohlcv(), HistoricalStore(database))
    database.close()
    return path


@pytest.fixture
def historical(sample_history: Path, tmp_path: Path) -> Iterator[Database]:
    """Return a historical database of this test with the bundled sample."""
    path = tmp_path / "sample.db"
    shutil.copy(sample_history, path)
    database = Database.open(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture
def stores(historical: Database, sqlite_database: Database, tmp_path: Path) -> Stores:
    """Return stores with the bundled sample and an empty record."""
    return stores_at(tmp_path / "home", historical, sqlite_database)


def stores_at(home: Path, historical: Database, runtime: Database) -> Stores:
    """Return the stores of two open databases and a home."""
    settings = Settings(home, "unused", "unused")
    return Stores(settings, HistoricalStore(historical), RuntimeStore(runtime))


@pytest.fixture(scope="session")
def sample_home(sample_history: Path) -> Callable[[Path], Settings]:
    """Return a function that makes a home with the bundled sample and an empty record."""

    def make(home: Path) -> Settings:
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample_history, home / "historical.db")
        settings = Settings.from_environment({"PROMETHEUS_HOME": str(home)})
        upgrade_schemas(settings)
        return settings

    return make


@pytest.fixture
def prometheus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command as `main` does: (exit code, output, errors)."""
    monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path / "home"))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["prometheus", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Start a Ray cluster of two nodes on this machine, one processor each; yield its address."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pnt-", dir="/tmp"))
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_TMPDIR": str(folder)}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (quiet | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}).items():
            environment.setenv(name, value)
        # Ray reads how it authenticates once, when it is imported.
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            cluster.add_node(**node)
            yield cluster.address
        finally:
            for node_of_cluster in cluster.list_all_nodes():
                cluster.remove_node(node_of_cluster, allow_graceful=False)
            shutil.rmtree(folder, ignore_errors=True)
