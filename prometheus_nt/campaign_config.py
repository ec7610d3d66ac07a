"""The file of a campaign: which node is varied, over what, on which sessions, judged how.

1. `load_campaign` reads the file and the node that it varies;
2. `CampaignConfig.variants` lays out families, markets and the grid, without what is excluded;
3. each variant is a node with one sleeve, whose id is the hash of everything that it is.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import Params, content_hash
from prometheus_nt.meta.selection import SelectionRules
from prometheus_nt.yaml_models import deep_merge, nested, read_yaml, validated
from strategies.catalog import SleeveParams, family

COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}

RISK_OFF: dict[str, Any] = {
    "max_abs_weight_per_name": 1.0,
    "max_gross": 5.0,
    "max_sector_weight": None,
    "max_net": None,
    "min_net": None,
    "max_liquidation_days": None,
    "max_stress_loss": None,
    "drawdown_breaker": None,
    "breaker_release": None,
    "max_turnover": None,
}
"""Limits of the risk engine that bind nothing."""

RISK_OFF_NOTE = (
    "Risk disabled: the risk engine's limits on names, gross, net, sectors, liquidity, stress, "
    "drawdown and turnover are off. Its ban on shorts in a long-only book, the limits of the "
    "portfolio engine and the order gate stay."
)

Grid = dict[str, tuple[Any, ...]]


class WindowConfig(Params):
    """First and last session of a window; a day without trading rolls inwards."""

    start: date
    end: date

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"end {self.end} lies before start {self.start}")
        return self


class FoldsConfig(Params):
    """Walk-forward folds: after `train` sessions, tests of `test` sessions one after another.

    A variant's parameters are fixed, so its record out of sample is its returns in the tests; what
    the training sessions say is only used to choose, fold by fold. `embargo` sessions between a
    training and its test are in neither.
    """

    train: int = Field(504, ge=1)
    test: int = Field(126, ge=1)
    embargo: int = Field(0, ge=0)


class ScreenConfig(Params):
    """Every variant screened first; what could be selected is then run event by event.

    Attributes
    ----------
    keep
        Variants that are run: so many, or as a fraction below 1 so large a part of all. Never
        fewer than can be selected; the best by the objective, and those whose screen failed.
    max_gap_bps
        Largest difference of a run's equity from its screen's that is no finding, basis points a
        year.
    """

    enabled: bool = True
    keep: int | float = Field(0.25, gt=0)
    max_gap_bps: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _a_number_or_a_part(self) -> Self:
        if self.keep >= 1 and self.keep != int(self.keep):
            raise ValueError(f"keep: a number of variants or a fraction below 1, not {self.keep}")
        return self

    def kept(self, variants: int, least: int) -> int:
        """Return how many of so many variants are run, `least` of them in any case."""
        wanted = int(self.keep) if self.keep >= 1 else ceil(self.keep * variants)
        return min(max(wanted, least, 1), variants)


class CampaignConfig(Params):
    """One campaign.

    Attributes
    ----------
    base
        The node's YAML file, or files of which later ones win; relative to the campaign's. Its
        sleeves are replaced by the variants.
    families, markets
        Sleeve families, and per market the dotted settings that it needs over the base.
    sessions, holdout
        Where variants are developed, and a later window that no variant is run on until
        `prometheus campaign holdout`: each look at it is a trial itself.
    grid
        Values per dotted setting of the node; `sleeve.*` is a setting of the sleeve.
    exclude
        Variants with all of these values (one, or a list) are left out.
    require
        Comparisons of settings of the grid and numbers that every variant has to satisfy,
        such as `engines.assessment.momentum_skip < engines.assessment.momentum_lookback`.
    disable_risk
        Switch the risk engine's limits off; the gate stays.
    screen
        How variants are screened before they are run; without it every variant is run.
    timeout_seconds, max_attempts
        Of one run; and how often it is tried if its worker dies.
    """

    campaign: str = Field(pattern=r"^[a-z0-9_]{1,40}$")
    base: tuple[str, ...]
    families: tuple[str, ...] = Field(("US_CORE_LONG_EQ",), min_length=1)
    markets: dict[str, dict[str, Any]] = Field({"US_EQ": {}}, min_length=1)
    sessions: WindowConfig
    holdout: WindowConfig | None = None
    folds: FoldsConfig | None = None
    grid: Grid = Field({})
    exclude: tuple[dict[str, Any], ...] = ()
    require: tuple[str, ...] = ()
    disable_risk: bool = False
    selection: SelectionRules = SelectionRules()
    screen: ScreenConfig | None = None
    timeout_seconds: float | None = Field(None, gt=0)
    max_attempts: int = Field(2, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _one_base_is_a_list_of_one(cls, content: Any) -> Any:
        if isinstance(content, Mapping) and isinstance(content.get("base"), str):
            return {**content, "base": [content["base"]]}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.holdout is not None and self.holdout.start <= self.sessions.end:
            raise ValueError(
                f"holdout.start {self.holdout.start} must come after sessions.end "
                f"{self.sessions.end}: what variants were developed on is no hold-out"
            )
        unknown = sorted(set(self.markets) - set(REGIONS.values()))
        if unknown:
            raise ValueError(f"markets: unknown {', '.join(unknown)}")
        empty = sorted(name for name, values in self.grid.items() if not values)
        if empty:
            raise ValueError(f"grid: no value for {', '.join(empty)}")
        named = {name for one in self.exclude for name in one}
        astray = sorted(named - set(self.grid) - {"family", "market"})
        if astray:
            raise ValueError(f"exclude: not in the grid: {', '.join(astray)}")
        for text in self.require:
            self._operands(text)
        return self

    @property
    def screens(self) -> bool:
        """Whether variants are screened before they are run."""
        return self.screen is not None and self.screen.enabled

    def assignments(self) -> Iterator[dict[str, Any]]:
        """Yield family, market and the settings of every variant that is not left out."""
        lists = {"family": self.families, "market": tuple(self.markets), **self.grid}
        for values in product(*lists.values()):
            chosen = dict(zip(lists, values, strict=True))
            if not self._excluded(chosen) and self._satisfied(chosen):
                yield chosen

    def _excluded(self, chosen: Mapping[str, Any]) -> bool:
        return any(
            all(chosen[name] in (of if isinstance(of, list) else [of]) for name, of in one.items())
            for one in self.exclude
        )

    def _satisfied(self, chosen: Mapping[str, Any]) -> bool:
        for text in self.require:
            left, compare, right = self._operands(text)
            if not compare(chosen.get(left, left), chosen.get(right, right)):
                return False
        return True

    def _operands(self, text: str) -> tuple[Any, Any, Any]:
        words = text.split()
        if len(words) != 3 or words[1] not in COMPARISONS:
            raise ValueError(
                f"require: {text!r} is no comparison; expected `setting < setting or number`, "
                f"with one of {' '.join(COMPARISONS)}"
            )
        left, right = (self._operand(words[at], text) for at in (0, 2))
        return left, COMPARISONS[words[1]], right

    def _operand(self, word: str, text: str) -> str | float:
        if word in self.grid:
            return word
        try:
            return float(word)
        except ValueError:
            raise ValueError(f"require: {text!r}: {word} is not in the grid") from None


@dataclass(frozen=True)
class Variant:
    """One node of a campaign, with one sleeve, and the settings that distinguish it."""

    settings: dict[str, Any]
    node: NodeConfig

    @property
    def sleeve(self) -> SleeveParams:
        return self.node.sleeves[0]


@dataclass(frozen=True)
class CampaignPlan:
    """A campaign's file with the node that it varies, as plain values."""

    config: CampaignConfig
    base: dict[str, Any]
    source: str

    def document(self) -> dict[str, Any]:
        """Return the plan as plain values; `plan_of` reads it back."""
        plain = self.config.model_dump(mode="json")
        return {"config": plain, "base": self.base, "source": self.source}

    def variants(self) -> list[Variant]:
        """Return every different variant, in the order of the grid.

        Raises
        ------
        ConfigError
            If the settings of one contradict each other, or none is left.
        """
        made = (self._variant(chosen) for chosen in self.config.assignments())
        # Two ways to say the same are one variant.
        unique = {variant.sleeve.sleeve_id: variant for variant in made}
        if not unique:
            raise ConfigError(f"{self.source}: exclude and require leave no variant")
        return list(unique.values())

    def _variant(self, chosen: Mapping[str, Any]) -> Variant:
        market = chosen["market"]
        changes = {
            "market": market,
            "region": next(region for region, of in REGIONS.items() if of == market),
            "sessions": self.config.sessions.model_dump(mode="json"),
        }
        node, sleeve = deep_merge(self.base, changes), {"family": chosen["family"]}
        settings = {name: value for name, value in chosen.items() if name in self.config.grid}
        for name, value in {**self.config.markets[market], **settings}.items():
            if name.startswith("sleeve."):
                sleeve = deep_merge(sleeve, nested(name.removeprefix("sleeve."), value))
            else:
                node = deep_merge(node, nested(name, value))
        if self.config.disable_risk:
            node = deep_merge(node, {"engines": {"risk": RISK_OFF}})
        where = f"{self.source}: variant " + ", ".join(f"{k}={v}" for k, v in chosen.items())
        return Variant(dict(chosen), _identified(node, sleeve, where))


def load_campaign(path: Path) -> CampaignPlan:
    """Return the plan of a campaign's file.

    Raises
    ------
    ConfigError
        Naming the file, the field, the value found and what was expected.
    """
    config = validated(CampaignConfig, read_yaml(path), str(path))
    return plan_campaign(config, [path.parent / name for name in config.base], str(path))


def plan_campaign(
    config: CampaignConfig, base: Sequence[Path], source: str = "campaign"
) -> CampaignPlan:
    """Return the plan of a campaign over the node in these files."""
    merged: dict[str, Any] = {}
    for path in base:
        merged = deep_merge(merged, read_yaml(path))
    # As plain values, so that a stored plan is the plan; and the base must be a node by itself.
    validated(NodeConfig, merged, " + ".join(map(str, base)))
    merged.pop("sleeves")
    merged["sessions"] = config.sessions.model_dump(mode="json")
    return CampaignPlan(config, merged, source)


def plan_of(document: Mapping[str, Any]) -> CampaignPlan:
    """Return the plan that `CampaignPlan.document` described."""
    config = validated(CampaignConfig, document["config"], document["source"])
    return CampaignPlan(config, dict(document["base"]), document["source"])


def _identified(node: Mapping[str, Any], sleeve: Mapping[str, Any], where: str) -> NodeConfig:
    """Return the node of one sleeve whose `variant` is the hash of what it is, dates apart."""
    anonymous = validated(NodeConfig, {**node, "sleeves": [sleeve]}, where)
    try:
        resolved = anonymous.resolved(anonymous.sleeves[0])
    except ConfigError as contradiction:
        raise ConfigError(f"{where}: {contradiction}") from None
    trades = family(anonymous.sleeves[0]).market_id
    if trades != anonymous.market:
        raise ConfigError(f"{where}: the family trades on {trades}, not on {anonymous.market}")
    resolved.pop("sessions")
    named = {**sleeve, "variant": f"V{content_hash([resolved]).upper()[:10]}"}
    return validated(NodeConfig, {**node, "sleeves": [named]}, where)
