"""How often selection is wrong on campaigns whose truth is known: noise, one real edge, padding.

Every campaign is 50 trials x 1,000 sessions at a volatility of 1 % a session, judged by the rules
as they are by default. Counts, not seconds, decide. Some minutes.
Example: python benchmarks/calibration.py 500
"""

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from prometheus_nt.meta.calibration import (
    CampaignShape,
    Noise,
    judge_edge,
    judge_noise,
    judge_padding,
)
from prometheus_nt.meta.selection import SelectionRules

EDGE_BPS = 12.0
RULES = SelectionRules()

MOST_SELECTING, MOST_SURVIVING, MOST_DEFLATING = 0.05, 0.08, 0.01
LEAST_FOUND = {Noise.PLAIN: 0.70, Noise.HEAVY: 0.70, Noise.RELATED: 0.70, Noise.PERSISTENT: 0.0}
"""Of persistent returns the mean is known less well, so that the same edge is a lesser one: that is
told, and not bounded."""


def main() -> None:
    """Print every share beside its bound, and fail if one is beyond it."""
    campaigns = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print(f"{campaigns} campaigns of each kind; an edge of {EDGE_BPS:g} bps a session\n")
    print(f"{'share of campaigns':<44}{'found':>8}{'bound':>10}")
    wrong = [each for kind in Noise for each in _of_kind(kind, campaigns)]
    padded = judge_padding(CampaignShape(trials=20), RULES, EDGE_BPS, campaigns)
    print(f"\n{padded.verdicts} verdicts padded: {padded.improved} improved, ", end="")
    print(f"{padded.lowered_hurdles} hurdles lowered")
    if any(wrong) or padded.improved or padded.lowered_hurdles:
        sys.exit(1)


def _of_kind(kind: Noise, campaigns: int) -> list[bool]:
    shape = CampaignShape(noise=kind)
    noise = judge_noise(shape, RULES, campaigns)
    edge = judge_edge(shape, RULES, EDGE_BPS, campaigns)
    print(f"{kind.lower()}")
    return [
        _told("noise: somebody is selected", noise.selecting / campaigns, most=MOST_SELECTING),
        _told("noise: somebody survives", noise.surviving / campaigns, most=MOST_SURVIVING),
        _told("noise: a deflated ratio is strong", noise.deflating / campaigns, MOST_DEFLATING),
        _told("edge: it survives", edge.surviving / campaigns, least=LEAST_FOUND[kind]),
        _told("edge: it is selected", edge.selecting / campaigns),
        _told("edge: another survives with it", edge.mistaken / campaigns, most=MOST_SURVIVING),
    ]


def _told(what: str, share: float, most: float = 1.0, least: float = 0.0) -> bool:
    """Print one share; return whether it is out of bounds."""
    bound = f"<= {most:.0%}" if most < 1.0 else f">= {least:.0%}" if least else "-"
    wrong = not least <= share <= most
    print(f"  {what:<42}{share:>8.1%}{bound:>10}{'   OUT OF BOUNDS' if wrong else ''}")
    return wrong


if __name__ == "__main__":
    main()
