"""Where the monitor of one of the engine's containers begins.

The process that starts the container is forked first of all, so that what it loads and what the monitor loads are
loaded beside each other.
"""

from __future__ import annotations

import gc
import os
import sys

from specrun_runtime.reporting import explain, read_request, say, settle
from specrun_runtime.starter import Starter

STEP = "supervise the container"


def main() -> None:
    """Supervise the container that the request names. Never returns."""
    status = 0
    try:
        settle()
        starter = Starter()
        from specrun_runtime.monitor import Supervisor

        gc.enable()  # it was off while modules were loaded
        if request := read_request():
            Supervisor(request, starter).run()
    except BaseException as error:
        status = 1
        say({"event": "failed", **explain(error, STEP)})
    os._exit(status)


if __name__ == "__main__":
    sys.exit("started by specrun_runtime.launch only")
