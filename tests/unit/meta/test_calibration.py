import numpy as np
import pytest

from prometheus_nt.meta import calibration
from prometheus_nt.meta.calibration import (
    CampaignShape,
    Noise,
    judge_edge,
    judge_noise,
    judge_padding,
    noise,
)
from prometheus_nt.meta.selection import SelectionRules

RULES = SelectionRules()
QUICK = RULES.model_copy(update={"paths": 200, "blocks": 6})
SMALL = CampaignShape(trials=8, sessions=300)


@pytest.mark.parametrize("kind", Noise)
def test_noise_has_no_mean_the_stated_volatility_and_the_dependence_it_is_named_for(kind):
    shape = CampaignShape(trials=20, sessions=20_000, noise=kind)

    made = noise(shape, 1)

    assert made.mean() == pytest.approx(0.0, abs=2e-4)
    assert made.std(axis=0) == pytest.approx(np.full(20, 0.01), rel=0.06)
    tails = (made**4).mean() / (made**2).mean() ** 2
    together = np.corrcoef(made.T)[~np.eye(20, dtype=bool)].mean()
    after = np.mean([np.corrcoef(one[:-1], one[1:])[0, 1] for one in made.T])
    assert (tails > 4.0) == (kind is Noise.HEAVY)
    assert together == pytest.approx(0.5 if kind is Noise.RELATED else 0.0, abs=0.03)
    assert after == pytest.approx(0.1 if kind is Noise.PERSISTENT else 0.0, abs=0.01)


def test_the_same_seed_makes_the_same_campaign_and_another_kind_another():
    related = SMALL.model_copy(update={"noise": Noise.RELATED})

    assert (noise(SMALL, 3) == noise(SMALL, 3)).all()
    assert (noise(SMALL, 3) != noise(SMALL, 4)).any()
    assert (noise(SMALL, 3) != noise(related, 3)).any()


def test_a_huge_edge_is_always_found_and_none_is_not():
    found = judge_edge(SMALL, QUICK, 60.0, 5)
    nothing = judge_edge(SMALL, QUICK, 0.0, 5)

    assert (found.surviving, found.selecting) == (5, 5)
    assert nothing.selecting == 0


def test_rules_that_let_everybody_pass_are_caught_on_noise():
    careless = QUICK.model_copy(
        update={
            "confidence": 0.51,
            "level": 0.99,
            "max_overfitting": 1.0,
            "unproven_overfitting": 1.0,
            "min_deflated": 0.01,
        }
    )

    found = judge_noise(SMALL, careless, 10)

    assert found.selecting >= 5
    assert found.surviving >= 5


def test_padding_that_helps_is_seen(monkeypatch):
    judged, campaigns = calibration._judged, []

    def padding_turns_losses_into_gains(returns, rules, seed, failed=0):
        campaigns.append(returns)
        return judged(-returns if len(campaigns) % 2 else returns, rules, seed, failed)

    monkeypatch.setattr(calibration, "_judged", padding_turns_losses_into_gains)

    found = judge_padding(SMALL, QUICK, 60.0, 4)

    assert found.improved > 0


@pytest.mark.slow
@pytest.mark.integration
def test_noise_selects_nobody_and_rarely_lets_one_survive():
    found = judge_noise(CampaignShape(), RULES, 100)

    assert found.selecting <= 5
    assert found.surviving <= 8
    assert found.deflating <= 1


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("kind", [Noise.PLAIN, Noise.HEAVY])
def test_twelve_basis_points_a_session_among_fifty_trials_survive(kind):
    found = judge_edge(CampaignShape(noise=kind), RULES, 12.0, 100)

    assert found.surviving >= 70
    assert found.mistaken <= 8


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("edge_bps", [0.0, 12.0, 20.0])
@pytest.mark.parametrize("kind", Noise)
def test_copies_near_copies_idle_and_failed_trials_never_improve_a_verdict(kind, edge_bps):
    found = judge_padding(CampaignShape(trials=20, noise=kind), RULES, edge_bps, 25)

    assert found.verdicts == 500
    assert (found.improved, found.lowered_hurdles) == (0, 0)
