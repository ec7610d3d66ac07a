"""Facts that come in versions: which belong together, and which say nothing new any more."""

import numpy as np

from prometheus_nt.domain.record import BoolArray, IntArray


def group_numbers(*keys: np.ndarray) -> IntArray:
    """Return the number of each row's combination of keys, in their order."""
    number = np.zeros(len(keys[0]), dtype=np.int64)
    for key in keys:
        distinct, code = np.unique(key, return_inverse=True)
        number = np.unique(number * (len(distinct) + 1) + code, return_inverse=True)[1]
    return number


def superseded(group: IntArray, stated: IntArray, known: IntArray) -> BoolArray:
    """Return which rows became known when something stated later of their group already was.

    A source that changes what it said of a first report does not unsay the restatement.
    """
    rank = np.unique(stated, return_inverse=True)[1]
    order = np.lexsort((rank, known, group))
    key = group[order] * (len(group) + 1) + rank[order]
    late = np.empty(len(group), dtype=np.bool_)
    late[order] = key < np.maximum.accumulate(key)
    return late
