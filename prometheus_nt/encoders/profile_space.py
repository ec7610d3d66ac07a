"""Instruments side by side: how they moved, what their accounts say, where they belong."""

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.profiles import PRICE_FEATURES, Profiles
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.encoders.joint import Block, JointSpace, JointVectors, join
from prometheus_nt.encoders.numeric import WindowVectors
from prometheus_nt.encoders.scaling import (
    anchored,
    one_hot,
    robust_zscores,
    typical_where_unknown,
)

SPACE = "PROFILE_CORE_V0"
TEXT_WIDTH = 384

RATIOS = ("gross_margin", "operating_margin", "net_margin", "leverage")
SIZES = ("revenue_ttm", "total_assets")
ACCOUNTS = (*RATIOS, *(f"ln_{name}" for name in SIZES), "cash_to_assets")

WEIGHTS = {"window": 1.0, "price": 1.0, "accounts": 1.0, "sector": 0.5, "text": 0.5}


def profile_vectors(
    profiles: Profiles,
    windows: WindowVectors | None = None,
    sectors: tuple[str | None, ...] = (),
    text: FloatArray | None = None,
) -> JointVectors:
    """Return the joint vectors of the instruments after one close.

    Parameters
    ----------
    windows : WindowVectors or None
        Of the same close; None where no model could be fitted yet.
    sectors : per instrument; empty if none is known
    text : (N, 384) array or None
        What the text encoder made of each instrument's description.

    Raises
    ------
    DataError
        If `windows` are of another close or of other instruments.
    """
    if windows is not None and (windows.as_of, windows.instruments) != (
        profiles.as_of,
        profiles.instruments,
    ):
        raise DataError(f"profiles of {profiles.as_of} do not match windows of {windows.as_of}")
    known = sorted({sector for sector in sectors if sector is not None})
    window = None if windows is None else windows.vectors
    parts = {
        "window": window,
        "price": _scaled(np.stack([profiles.features[name] for name in PRICE_FEATURES], axis=1)),
        "accounts": _scaled(_accounts(profiles)),
        "sector": one_hot(sectors, known) if known else None,
        "text": text,
    }
    names = {
        "window": tuple(f"component_{n}" for n in range(0 if window is None else window.shape[1])),
        "price": (*PRICE_FEATURES, "anchor"),
        "accounts": (*ACCOUNTS, "anchor"),
        "sector": tuple(known),
        "text": tuple(f"text_{n}" for n in range(TEXT_WIDTH)) if text is not None else (),
    }
    blocks = tuple(Block(name, names[name], WEIGHTS[name]) for name in names if names[name])
    present = {block.name: parts[block.name] for block in blocks}
    return join(JointSpace(SPACE, blocks), profiles.instruments, present)


def _accounts(profiles: Profiles) -> FloatArray:
    of = profiles.features
    with np.errstate(invalid="ignore", divide="ignore"):
        sizes = [np.log(np.where(of[name] > 0.0, of[name], np.nan)) for name in SIZES]
        cash = of["cash"] / np.where(of["total_assets"] > 0.0, of["total_assets"], np.nan)
    return np.stack([*(of[name] for name in RATIOS), *sizes, cash], axis=1)


def _scaled(x: FloatArray) -> FloatArray:
    return anchored(typical_where_unknown(robust_zscores(x)))
