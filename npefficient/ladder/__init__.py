"""Each operator from plain loops to the machine's limit, rung by rung; `registry` lists all rungs."""
