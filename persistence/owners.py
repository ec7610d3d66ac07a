"""Owners of leases: `host:pid:...` names a process, so that its own machine knows when it is gone.

From another machine's view, and for a name of any other form, a lease ends with its time alone.
"""

import os
import socket


def is_gone(owner: str) -> bool:
    """Return whether the owner is a process of this machine that is no more."""
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
