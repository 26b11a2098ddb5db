"""The version of the package; pyproject.toml reads it from this file as text."""

__version__ = "0.2.0"
