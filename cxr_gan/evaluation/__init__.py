"""Compares sets of images: metrics, references, verdict and report."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxr_gan.evaluation.run import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    """Imports `evaluate` on first use: training imports parts of this package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cxr_gan.evaluation import run

    return run.evaluate
