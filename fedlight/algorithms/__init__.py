"""Published methods, one file each: a composition of parts and every way in which it differs from its paper."""

from fedlight.algorithms.cgsv import CGSV
from fedlight.algorithms.fedasync import FedAsync
from fedlight.algorithms.fedavg import FedAvg
from fedlight.algorithms.fedbuff import FedBuff
from fedlight.algorithms.feddu import FedDU
from fedlight.algorithms.fedduap import FedDUAP
from fedlight.algorithms.fedlight import FedLight
from fedlight.algorithms.fedlightmask import FedLightMask
from fedlight.algorithms.fedmp import FedMP
from fedlight.algorithms.fednova import FedNova
from fedlight.algorithms.fedpace import FedPace
from fedlight.algorithms.fedprox import FedProx
from fedlight.algorithms.flexcom import FlexCom
from fedlight.algorithms.heterofl import HeteroFL
from fedlight.algorithms.prunefl import PruneFL
from fedlight.algorithms.randomratio import RandomRatio
from fedlight.algorithms.speedratio import SpeedRatio
from fedlight.algorithms.synfl import SynFL
from fedlight.algorithms.upfl import UPFL

__all__ = [
    "CGSV",
    "UPFL",
    "FedAsync",
    "FedAvg",
    "FedBuff",
    "FedDU",
    "FedDUAP",
    "FedLight",
    "FedLightMask",
    "FedMP",
    "FedNova",
    "FedPace",
    "FedProx",
    "FlexCom",
    "HeteroFL",
    "PruneFL",
    "RandomRatio",
    "SpeedRatio",
    "SynFL",
]
