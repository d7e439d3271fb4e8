"""Trains the adapters on unlabeled frames and their audio (paper section 3.1)."""
