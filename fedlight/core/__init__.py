"""The engine: what travels in a round, the slots of an algorithm, the server and its clients."""

from fedlight.core.algorithm import Algorithm
from fedlight.core.client import run_client
from fedlight.core.server import Server

__all__ = ["Algorithm", "Server", "run_client"]
