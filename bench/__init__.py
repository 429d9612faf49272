"""Benchmarks; no test depends on them."""
