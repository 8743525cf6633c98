"""Every rung of every ladder, for the tests, the benchmark and the notebook."""
from . import block, depthwise, pointwise, pointwise_int8

LADDERS = {"depthwise": depthwise.RUNGS, "pointwise": pointwise.RUNGS, "block": block.RUNGS,
           "pointwise-int8": pointwise_int8.RUNGS}
