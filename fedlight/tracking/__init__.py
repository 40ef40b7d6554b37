"""Lightning callbacks that show a run: scalars, pictures, progress, a log of jobs and the table at the end."""

from fedlight.tracking.job_log import JobLog
from fedlight.tracking.pictures import Pictures
from fedlight.tracking.progress import RoundProgress
from fedlight.tracking.scalars import FleetScalars
from fedlight.tracking.summary import RunSummary

__all__ = ["FleetScalars", "JobLog", "Pictures", "RoundProgress", "RunSummary"]
