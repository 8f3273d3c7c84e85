"""Interleaved benchmarks of speed and memory: the cost of factors, and the gain of a compact network."""
