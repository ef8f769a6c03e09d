"""MLE-bench: competitions in its package format, graded by its rules."""

from trellis.benchmarks.mle.benchmark import Mle

__all__ = ["Mle"]
