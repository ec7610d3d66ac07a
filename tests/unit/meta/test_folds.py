import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.folds import Fold, chosen_by_training, rows_tested, walk_forward


def test_tests_follow_each_other_and_the_embargo_belongs_to_nobody():
    folds = walk_forward(10, train=3, test=2, embargo=1)

    assert folds == (
        Fold((0, 3), (4, 6)),
        Fold((2, 5), (6, 8)),
        Fold((4, 7), (8, 10)),
    )
    assert rows_tested(folds, 10).tolist() == [False] * 4 + [True] * 6


def test_the_last_test_may_be_short_and_a_record_without_a_test_is_refused():
    assert walk_forward(8, train=4, test=3)[-1] == Fold((3, 7), (7, 8))

    with pytest.raises(DataError, match="5 sessions: 4 to train and 1 of embargo leave none"):
        walk_forward(5, train=4, test=3, embargo=1)


def test_the_best_in_training_is_followed_through_its_test():
    first, second = [0.01, 0.02, -0.05, -0.06], [-0.01, 0.01, 0.03, 0.04]
    returns = np.column_stack([first, second])
    folds = walk_forward(4, train=2, test=2)

    chosen, stitched = chosen_by_training(returns, folds)

    assert chosen.tolist() == [0]
    assert stitched.tolist() == [-0.05, -0.06]
