"""The garbage collector while a run is made."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def calm_collector() -> Iterator[None]:
    """Collect garbage rarely: a run makes millions of objects that all live until its end.

    Scanning them over and over costs a tenth of a run and frees nothing.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
