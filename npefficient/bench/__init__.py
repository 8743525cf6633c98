"""Benchmarks: verify, warm up, then time. Only figures of the same run are comparable."""
