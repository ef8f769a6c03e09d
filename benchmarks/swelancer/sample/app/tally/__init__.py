"""Tally: a small expense tracker."""
