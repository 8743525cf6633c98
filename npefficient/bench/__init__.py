"""Benchmarks: verify first, then warm up, then time. Figures of one run compare only with each other."""
