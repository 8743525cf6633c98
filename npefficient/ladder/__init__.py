"""Each operator from plain loops to the machine's limit, a few lines from rung to rung; `registry` lists them all."""
