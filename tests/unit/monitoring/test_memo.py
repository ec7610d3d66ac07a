from threading import Barrier, Thread

import pytest

from prometheus_nt.monitoring.memo import Memo


def test_of_many_who_ask_at_once_one_computes():
    memo, made, barrier = Memo(), [], Barrier(8)

    def ask():
        barrier.wait()
        found.append(memo.get("key", lambda: made.append(1) or len(made)))

    found = []
    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(made), found) == (1, [1] * 8)


def test_what_was_not_asked_for_longest_is_forgotten():
    memo = Memo(most=2)
    for key in ("a", "b", "a", "c"):
        memo.get(key, lambda key=key: key)

    assert memo.get("a", lambda: "anew") == "a"
    assert memo.get("b", lambda: "anew") == "anew"


def test_what_fails_is_tried_again():
    memo = Memo()

    with pytest.raises(ZeroDivisionError):
        memo.get("key", lambda: 1 / 0)

    assert memo.get("key", lambda: 7) == 7
