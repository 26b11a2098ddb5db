"""Metrics of image quality: pure functions of arrays, in NumPy and JAX."""
