"""Audit of a data set: what it holds, and what would mislead a GAN or a metric."""
