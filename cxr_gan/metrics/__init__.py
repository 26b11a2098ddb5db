"""Figures of how good images are: pure functions of arrays, in NumPy and JAX."""
