"""Small interactive tasks on pages of our own, done in a browser inside the agent's world."""

from trellis.benchmarks.browser.benchmark import Browser

__all__ = ["Browser"]
