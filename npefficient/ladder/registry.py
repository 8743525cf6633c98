"""Every rung of every ladder, for the tests, the benchmark and the notebook."""
from . import block, depthwise, pointwise

LADDERS = {"depthwise": depthwise.RUNGS, "pointwise": pointwise.RUNGS, "block": block.RUNGS}
