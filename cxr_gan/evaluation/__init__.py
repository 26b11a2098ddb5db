"""Compares sets of images: metrics, references, verdict and report."""
