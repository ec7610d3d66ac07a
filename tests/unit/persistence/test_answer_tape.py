from datetime import date

import pytest

from persistence.answer_tape import AnswerTape
from persistence.spool import Spool
from prometheus_nt.domain.answers import Answer, End, ToldFill
from prometheus_nt.domain.errors import StoreError

DAY = date(2006, 1, 9)
ANSWERS = (
    Answer("O-1", "run-A-0-0", End.FILLED, (ToldFill("e.01", 60, 10.123457, 0.3, 5),)),
    Answer("O-2", "run-B-0-0", End.REJECTED, reason="no"),
)


def test_answers_are_those_that_were_written_after_a_restart(tmp_path):
    spool = Spool(tmp_path / "answers.spool")
    AnswerTape(spool).write(DAY, ANSWERS)
    spool.close()

    again = AnswerTape(Spool(tmp_path / "answers.spool"))

    assert again.of(DAY) == ANSWERS
    assert again.of(date(2006, 1, 10)) is None


def test_the_answers_of_a_session_are_written_once(tmp_path):
    tape = AnswerTape(Spool(tmp_path / "answers.spool"))
    tape.write(DAY, ANSWERS)

    with pytest.raises(StoreError, match="written before"):
        tape.write(DAY, ())
