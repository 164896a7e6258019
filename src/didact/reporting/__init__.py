"""Results → one self-contained HTML file that a person reads without a network."""

from __future__ import annotations

from didact.reporting.content import Report
from didact.reporting.page import write_report

__all__ = ["Report", "write_report"]
