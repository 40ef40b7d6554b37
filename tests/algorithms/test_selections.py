"""Every algorithm takes every selection, by option too, and an interrupted run with one goes on as it would have."""

import federation
import pytest
from federation import run
from same import equal

import fedlight.algorithms
from fedlight.parts.selection import LeastAvailable, Oort, TiFL

KINDS = {
    "Oort": Oort,
    "TiFL": lambda: TiFL(num_tiers=2, interval=2, profiling_rounds=2),
    "LeastAvailable": LeastAvailable,
}
NAMES = list(fedlight.algorithms.__all__)


def make(name, kind, count=3):
    algorithm = getattr(fedlight.algorithms, name)
    return algorithm(**{federation.size_key(name): count, "selection": KINDS[kind]()})


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_takes_every_selection(name):
    kind = list(KINDS)[NAMES.index(name) % len(KINDS)]
    server = run(make(name, kind), rounds=4)
    selection = server.algorithm.selection
    selection = getattr(selection, "then", selection)
    assert type(selection).__name__ == kind
    assert {"Oort": "exploration", "TiFL": "tier"}.get(kind, "") in "".join(selection.metrics())
    told = selection.state_dict()
    heard = {"Oort": "num_times", "TiFL": "latency_s", "LeastAvailable": "asked"}[kind]
    assert (told[heard].nan_to_num() > 0).any()  # reports have reached it


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_as_it_would_have(kind, tmp_path):
    whole = run(make("FedAvg", kind), rounds=5, folder=tmp_path)
    resumed = run(make("FedAvg", kind), rounds=5, folder=tmp_path / "again", resume=tmp_path / "step=2.ckpt")
    assert equal(whole.state_dict(), resumed.state_dict())
