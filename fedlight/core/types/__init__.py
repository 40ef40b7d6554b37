"""What travels between the parts of a round: work, timings, tasks, updates, jobs and the record of a round."""

from fedlight.core.types.data import ClientData, FederatedData, Summarise
from fedlight.core.types.job import STATISTICS, ClientTask, Job, State, Update
from fedlight.core.types.round import Reduce, Report, RoundState
from fedlight.core.types.work import Price, Timing, Work

__all__ = [
    "STATISTICS",
    "ClientData",
    "ClientTask",
    "FederatedData",
    "Job",
    "Price",
    "Reduce",
    "Report",
    "RoundState",
    "State",
    "Summarise",
    "Timing",
    "Update",
    "Work",
]
