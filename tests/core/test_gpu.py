"""On a CUDA device a run is the run of the CPU, up to float32."""

import pytest
import torch
from toy import Regressor, ToyFleet

from fedlight.algorithms import FedAvg, FedLight, FedLightMask, HeteroFL, PruneFL, SpeedRatio
from fedlight.core import Server
from fedlight.parts import MixedImportance, RunningStatistics
from fedlight.parts.local import LeanLoop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def plain_heterofl():
    """Without masked logits, which need class labels."""
    return HeteroFL(local=LeanLoop(), norm=RunningStatistics())


@pytest.mark.parametrize(
    "algorithm",
    [
        FedAvg,
        SpeedRatio,
        plain_heterofl,
        FedLight,
        lambda: FedLight(criterion="taylor"),
        lambda: FedLight(importance=MixedImportance()),
        lambda: FedLightMask(prune_until=3, regrow="gradient"),
        lambda: PruneFL(initial_rounds=1, prune_every=1),
        lambda: PruneFL(initial_rounds=1, prune_every=1, structured=True),
    ],
)
def test_a_run_on_the_gpu_is_that_of_the_cpu(algorithm, data, trainer):
    states = {}
    for accelerator in ("cpu", "cuda"):
        torch.manual_seed(0)
        server = Server(Regressor(), algorithm(), ToyFleet(), seed=1)
        trainer(4, accelerator=accelerator, devices=1).fit(server, datamodule=data)
        states[accelerator] = {name: value.cpu() for name, value in server.client.state_dict().items()}
        assert server.clock.now_s > 0
    for name, value in states["cpu"].items():
        torch.testing.assert_close(states["cuda"][name], value, rtol=1e-4, atol=1e-5)
