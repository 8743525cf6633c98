"""The targets of shipped code that this processor's architecture has, and those whose code it can run."""
import platform

import pytest

from npefficient.engine import targets

HERE = [target for target in targets.TARGETS if platform.machine().lower() in target.machines]
FITTING = [target for target in HERE if not target.missing()]
fitting = pytest.mark.skipif(not FITTING, reason="this processor has the features of no target")
