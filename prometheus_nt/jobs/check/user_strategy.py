"""A strategy in plain Python: found in a file, called on a panel, its answer checked for shape.

A strategy is a function of a `MarketPanel` of T sessions and N instruments, in one of three forms,
which are told apart by what it returns:

- (T, N) weights or signals, row t decided after the close of session t;
- a pair of these weights and (T,) its own profit and loss per session (or its equity), in which
  row t is what session t earned on positions decided before it;
- (N,) weights or signals decided at the panel's last close; it is then called session by session.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from prometheus_nt.domain.errors import ConfigError, StrategyError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray

EXAMPLE = "examples/user_strategy.py:momentum"


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a strategy answered for a panel.

    Attributes
    ----------
    weights : (T, N) array, or (N,) of a strategy that is called session by session
    earned : (T,) array or None
        Profit and loss per session, or equity.
    """

    weights: FloatArray
    earned: FloatArray | None = None

    @property
    def per_session(self) -> bool:
        return self.weights.ndim == 1


@dataclass(frozen=True)
class UserStrategy:
    """A named function that somebody else wrote."""

    name: str
    function: Callable[[MarketPanel], Any]

    def decide(self, panel: MarketPanel) -> Decisions:
        """Return what the function answers for `panel`.

        Raises
        ------
        StrategyError
            If it raises, or its answer has not one of the three forms.
        """
        with _foreign(self.name, f"raised on {len(panel)} sessions up to {panel.as_of}"):
            answer = self.function(panel)
        if isinstance(answer, tuple) and len(answer) == 2:
            weights, earned = answer
            decisions = Decisions(
                self._array(weights, "weights"), self._array(earned, "profit and loss")
            )
        else:
            decisions = Decisions(self._array(answer, "weights"))
        self._require_shapes(decisions, panel)
        return decisions

    def _array(self, values: Any, what: str) -> FloatArray:
        try:
            # A copy: a function may hand out the same array twice.
            return np.array(values, dtype=np.float64)
        except (TypeError, ValueError) as unfit:
            raise StrategyError(
                f"{self.name}: its {what} cannot be read as an array of numbers: {unfit}; return "
                "an array or a data frame, NaN where nothing is decided"
            ) from unfit

    def _require_shapes(self, decisions: Decisions, panel: MarketPanel) -> None:
        whole = panel.close.shape
        allowed = [whole] if decisions.earned is not None else [whole, whole[1:]]
        if decisions.weights.shape not in allowed:
            expected = " or ".join(map(str, allowed))
            raise StrategyError(
                f"{self.name}: weights have shape {decisions.weights.shape}, expected {expected}: "
                "one row per session and one column per instrument of the panel; keep every row, "
                "NaN where nothing is decided"
            )
        if decisions.earned is not None and decisions.earned.shape != whole[:1]:
            raise StrategyError(
                f"{self.name}: profit and loss has shape {decisions.earned.shape}, expected "
                f"{whole[:1]}: one figure per session, NaN where there is none"
            )


def load_strategy(reference: str) -> UserStrategy:
    """Return the function that `FILE.py:FUNCTION` names.

    Raises
    ------
    ConfigError
        If the reference, the file or the function is not there.
    StrategyError
        If the file cannot be run.
    """
    file, separator, name = reference.rpartition(":")
    if not separator or not name:
        raise ConfigError(
            f"--strategy {reference!r}: expected FILE.py:FUNCTION, for example {EXAMPLE}"
        )
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"--strategy {reference!r}: there is no file {str(path)!r}")
    module = _module(path)
    function = getattr(module, name, None)
    if not callable(function):
        own = [key for key, value in vars(module).items() if _is_own(value, module)]
        raise ConfigError(
            f"--strategy {reference!r}: {path} has no function {name!r}; it has: "
            f"{', '.join(own) or 'none'}"
        )
    return UserStrategy(f"{path.name}:{name}", function)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--strategy: {path} is not a Python file; its name must end with .py")
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for the names in their annotations.
    sys.modules[spec.name] = module
    # As `python FILE.py` would, so that it finds the files beside it.
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        with _foreign(path.name, "cannot be run"):
            spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def _is_own(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


@contextmanager
def _foreign(name: str, event: str) -> Iterator[None]:
    """Turn whatever a user's code raises into an error that says where it happened."""
    try:
        yield
    except (Exception, SystemExit) as error:
        # The innermost frame of the user's own file, not of the library that it called.
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).name == name.partition(":")[0]]
        place = (own or frames)[-1]
        raise StrategyError(
            f"{name}: {event}: {type(error).__name__}: {error} ({Path(place.filename).name}, line "
            f"{place.lineno})"
        ) from error
