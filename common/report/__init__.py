"""The HTML report of a run: one self-contained page that answers what each hospital gained."""

from common.report.page import render_report

__all__ = ["render_report"]
