"""Reading finished runs, and what tables, pictures and a page say of them."""

from fedlight.report.write import PAGE, ReportSettings, write_report

__all__ = ["PAGE", "ReportSettings", "write_report"]
