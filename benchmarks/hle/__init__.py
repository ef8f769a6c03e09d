"""Humanity's Last Exam: questions with one right answer, judged by a model, and how well confidence is calibrated."""

from trellis.benchmarks.hle.benchmark import Hle

__all__ = ["Hle"]
