"""Results → one self-contained HTML file that a person reads without a network."""

from __future__ import annotations

from didact.reporting.page import write_report
from didact.reporting.report import Report
from didact.reporting.subject import EvaluationFacts, Subject, TrainingFacts

__all__ = ["EvaluationFacts", "Report", "Subject", "TrainingFacts", "write_report"]
