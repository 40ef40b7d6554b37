"""Reading finished runs, and what tables, pictures and a page say of them."""

from fedlight.report.settings import ReportSettings
from fedlight.report.write import PAGE, write_report

__all__ = ["PAGE", "ReportSettings", "write_report"]
