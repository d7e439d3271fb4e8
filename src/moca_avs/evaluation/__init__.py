"""Runs a method over an evaluation set, beside nulls and a wrong-sound control, and reports."""

from moca_avs.evaluation.compare import Comparison, compare
from moca_avs.evaluation.report import Report, merge, read_report
from moca_avs.evaluation.run import evaluate, evaluate_predictions

__all__ = [
    "Comparison",
    "Report",
    "compare",
    "evaluate",
    "evaluate_predictions",
    "merge",
    "read_report",
]
