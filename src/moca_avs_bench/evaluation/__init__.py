"""Runs a method over an evaluation set, beside baselines that cannot hear, and reports."""
