"""Names that `benchmarks.streams` uses; see `benchmarks.command_line`."""

from benchmarks.command_line import circumstances, table

__all__ = ["circumstances", "table"]
