"""Vectors of a dataset, computed by the encoders after a close and stored.

1. `_windows`: the newest window of every instrument, by a model fitted on what was known by then.
2. `_profiles`: window, prices, accounts and sector of every instrument side by side.
3. `_articles`: every article known by then that the model has not read, where it is installed.
"""

from dataclasses import dataclass
from datetime import date

from persistence.embeddings import Close, EmbeddingStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.encoders.numeric import WindowParams, WindowVectors, encode_windows
from prometheus_nt.encoders.profile_space import profile_vectors
from prometheus_nt.encoders.text import INSTALL, MODEL_ID, TextModel, installed_model, is_installed
from prometheus_nt.engines.profiles import ProfileParams, build_profiles
from prometheus_nt.jobs.sessions import view_of
from prometheus_nt.jobs.stores import Stores

PROFILE = "PROFILE"


@dataclass(frozen=True)
class Embedded:
    """What became of one kind of vector.

    Attributes
    ----------
    written : int
        Vectors that were not there before.
    left_out : str or None
        Why there are none; None if there are.
    """

    kind: str
    model_id: str | None
    written: int
    left_out: str | None = None


def embed(
    stores: Stores, dataset_id: str, as_of: date | None = None, model: TextModel | None = None
) -> list[Embedded]:
    """Store the vectors of a dataset after a session; done twice, nothing is written.

    Parameters
    ----------
    as_of : date, optional
        A session; the dataset's last by default.
    model : TextModel, optional
        What reads the news; the installed one by default.

    Raises
    ------
    StoreError
        If there is no such dataset.
    NonSession
        If the market did not trade on that day.
    """
    panel = view_of(stores, dataset_id, as_of)
    market_id = stores.historical.dataset(dataset_id)["market_id"]
    closed_at = MarketCalendar.of(market_id).close_time(panel.as_of)
    close = Close(dataset_id, panel.as_of, closed_at)
    store = EmbeddingStore(stores.historical.database)
    if model is None and is_installed():
        model = installed_model()
    windows, found = _windows(store, close, panel)
    return [found, _profiles(store, close, panel, windows), _articles(store, close, model)]


def _windows(
    store: EmbeddingStore, close: Close, panel: MarketPanel
) -> tuple[WindowVectors | None, Embedded]:
    params = WindowParams()
    try:
        windows = encode_windows(panel, params)
    except DataError as too_little:
        return None, Embedded("windows", None, 0, str(too_little))
    model_id = f"{windows.model_id}-{windows.version}"
    spec = {**params.model_dump(), "data_fingerprint": panel.fingerprint}
    of = dict(zip(windows.instruments, windows.vectors, strict=True))
    return windows, Embedded("windows", model_id, store.write_windows(close, model_id, spec, of))


def _profiles(
    store: EmbeddingStore, close: Close, panel: MarketPanel, windows: WindowVectors | None
) -> Embedded:
    try:
        profiles = build_profiles(panel, ProfileParams())
    except InsufficientHistory as too_short:
        return Embedded("profiles", None, 0, str(too_short))
    made = profile_vectors(profiles, windows, panel.sectors)
    # The window's coordinates mean what its model learned: another model is another space.
    version = "none" if windows is None else windows.version
    model_id = f"{made.space.schema_id}-{version}"
    of = dict(zip(made.ids, made.vectors, strict=True))
    return Embedded("profiles", model_id, store.write_joint(close, PROFILE, model_id, of))


def _articles(store: EmbeddingStore, close: Close, model: TextModel | None) -> Embedded:
    if model is None:
        return Embedded("news", None, 0, f"no text model is installed: {INSTALL}")
    model_id = f"{MODEL_ID}-{model.version}"
    articles = store.articles_without(close.dataset_id, model_id, close.closed_at)
    vectors = model.encode([article.text for article in articles])
    return Embedded("news", model_id, store.write_articles(model_id, articles, vectors))
