"""Lightning callbacks that show a run: scalars, pictures, progress, a log of jobs and the table at the end."""

from fedlight.tracking.fleet_overview import FleetOverview
from fedlight.tracking.job_log import JobLog
from fedlight.tracking.pictures import Pictures
from fedlight.tracking.progress import RoundProgress
from fedlight.tracking.run_note import RunNote
from fedlight.tracking.scalars import FleetScalars
from fedlight.tracking.stop_at import StopAt
from fedlight.tracking.summary import RunSummary

__all__ = ["FleetOverview", "FleetScalars", "JobLog", "Pictures", "RoundProgress", "RunNote", "RunSummary", "StopAt"]
