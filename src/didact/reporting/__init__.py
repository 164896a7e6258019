"""Results → one self-contained HTML file that a person reads without a network."""

from __future__ import annotations

from didact.reporting.page import write_report
from didact.reporting.report import Report
from didact.reporting.subject import Subject

__all__ = ["Report", "Subject", "write_report"]
