"""Nothing decided at a close may depend on anything later."""

import numpy as np
import pytest

pytestmark = pytest.mark.integration


def _decided(node, until_ns):
    return [
        (trace.ts_ns, trace.column, trace.side, trace.quantity, trace.order_type)
        for trace in node.mirror.orders.values()
        if trace.ts_ns <= until_ns
    ]


@pytest.mark.parametrize("cut", [80, 150, 231, 305])
def test_replacing_the_future_changes_no_order_of_the_past(market, run, configured, perturbed, cut):
    execution = {
        "quotes": {"impact_coefficient": 0.5},
        "planner": {"max_participation": 0.02},
    }
    honest = run(configured(execution=execution), market)
    close_ns = next(held.ts_ns for held in honest.mirror.holdings[cut:])

    changed = run(configured(execution=execution), perturbed(market, cut, seed=cut))

    assert _decided(honest, close_ns) == _decided(changed, close_ns)
    before = [held.equity for held in honest.mirror.holdings[: cut + 1]]
    assert before == [held.equity for held in changed.mirror.holdings[: cut + 1]]
    assert [held.equity for held in honest.mirror.holdings[cut + 1 :]] != [
        held.equity for held in changed.mirror.holdings[cut + 1 :]
    ]


def test_a_later_split_rescales_shares_and_changes_no_decision(market, run, configured):
    honest = run(configured(), market)
    split = market.split.copy()
    arrays = {name: getattr(market, name).copy() for name in ("open", "high", "low", "close")}
    split[310, 0] = 2.0
    for prices in arrays.values():
        prices[310:, 0] /= 2.0
    changed_market = type(market)(
        sessions=market.sessions,
        instruments=market.instruments,
        volume=market.volume,
        split=split,
        dividend=market.dividend,
        fingerprint="later split",
        **arrays,
    )

    changed = run(configured(), changed_market)

    last_ns = honest.mirror.holdings[309].ts_ns
    ours = _decided(honest, last_ns)
    theirs = _decided(changed, last_ns)
    factor = [2 if column == 0 else 1 for _, column, *_ in ours]
    assert any(scale == 2 for scale in factor)
    assert [
        (ts, column, side, quantity * scale, kind)
        for (ts, column, side, quantity, kind), scale in zip(ours, factor, strict=True)
    ] == theirs
    equity = np.array([held.equity for held in honest.mirror.holdings[:310]])
    rescaled = np.array([held.equity for held in changed.mirror.holdings[:310]])
    assert np.allclose(equity, rescaled, rtol=0, atol=0.05)
