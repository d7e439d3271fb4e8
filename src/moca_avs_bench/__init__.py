"""Measures `moca_avs`: data sets, the offline benchmark "stamps", metrics, evaluation, the paper's tables."""
