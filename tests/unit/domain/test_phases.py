from itertools import pairwise

import pytest

from prometheus_nt.domain.errors import PhaseError
from prometheus_nt.domain.phases import CHAIN, TERMINAL, RunPhase, next_phase, require_move


def test_the_chain_leads_from_waiting_to_completed():
    phase, seen = RunPhase.WAITING_FOR_DATA, [RunPhase.WAITING_FOR_DATA]
    while phase is not RunPhase.COMPLETED:
        phase = next_phase(phase)
        seen.append(phase)

    assert tuple(seen) == CHAIN


@pytest.mark.parametrize("phase", TERMINAL)
def test_nothing_follows_a_terminal_phase(phase):
    with pytest.raises(PhaseError, match="nothing follows"):
        next_phase(phase)


def test_exactly_the_moves_of_the_drawing_are_legal():
    legal = set()
    for before in RunPhase:
        for after in RunPhase:
            try:
                require_move(before, after, failed_phase=RunPhase.SIGNALS_DONE)
            except PhaseError:
                continue
            legal.add((before, after))

    forward = set(pairwise(CHAIN))
    failing = {(phase, RunPhase.FAILED) for phase in CHAIN[:-1]}
    assert legal == forward | failing | {(RunPhase.FAILED, RunPhase.SIGNALS_DONE)}
