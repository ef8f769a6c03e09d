"""SWE-Lancer: freelance software work, each task with its price, graded end to end."""

from trellis.benchmarks.swelancer.benchmark import SweLancer

__all__ = ["SweLancer"]
