"""kill -9 while a container of the OCI command line is made: `delete --force` leaves nothing of it."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.support.oci import Runtime

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


@pytest.mark.parametrize("moment", [0.03, 0.06, 0.09, 0.12, 0.15, 0.2])
def test_a_creation_that_is_killed(runtime: Runtime, moment: float) -> None:
    bundle = runtime.bundle()
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    null = subprocess.DEVNULL
    command = runtime.command("create", "--bundle", str(bundle.folder), "c")
    making = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)
    time.sleep(moment)
    making.kill()
    making.wait()
    time.sleep(0.3)  # what it had started may have gone on meanwhile
    runtime.ok("delete", "--force", "c")
    # That nothing is left is looked at by the fixture; and the id is free again.
    runtime.start(bundle, "c")
