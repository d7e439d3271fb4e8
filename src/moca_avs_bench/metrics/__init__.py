"""Scores of masks, class maps and heat maps, and bootstrap intervals over source files."""
