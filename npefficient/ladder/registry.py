"""Every rung of every ladder: what the tests verify, the benchmark times and the notebook draws."""
from . import block, depthwise, pointwise

LADDERS = {"depthwise": depthwise.RUNGS, "pointwise": pointwise.RUNGS, "block": block.RUNGS}
