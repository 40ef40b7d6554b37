"""Runs whose logs are made up, so that all a report says of them can be worked out on paper."""

import json

import yaml
from torch.utils.tensorboard import SummaryWriter

CONFIG = {
    "seed_everything": 0,
    "model": {
        "client": {"class_path": "fedlight.models.ConvNet", "init_args": {"variant": "digits", "lr": 0.1}},
        "algorithm": {"class_path": "fedlight.algorithms.SynFL", "init_args": {"clients_per_round": None}},
        "fleet": {"class_path": "fedlight.fleet.High", "init_args": {"noise": 0.1}},
    },
    "data": {
        "dataset": {"class_path": "fedlight.data.Digits", "init_args": {}},
        "num_clients": 4,
        "partition": {"class_path": "fedlight.data.DirichletByClient", "init_args": {"alpha": 0.5}},
        "batch_size": 20,
        "validate_on": "test",
    },
    "trainer": {"max_epochs": 6, "default_root_dir": "runs"},
}


def write_log(folder, scalars, first_round=0):
    """Write one event file: tag to one value per round."""
    with SummaryWriter(folder) as writer:
        for tag, values in scalars.items():
            for step, value in enumerate(values):
                writer.add_scalar(tag, value, first_round + step)


def write_config(folder, algorithm="SynFL", seed=0, **data):
    """Write the config.yaml that ``fedlight fit`` leaves, and return its folder."""
    config = json.loads(json.dumps(CONFIG))
    config["seed_everything"] = seed
    config["model"]["algorithm"]["class_path"] = f"fedlight.algorithms.{algorithm}"
    config["data"] |= data
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def round_scalars(accuracy, seconds, **more):
    """Return the scalars of a run: a second of wall time, 1 MB up and 3 MB down, 1 GMAC and half waiting a round."""
    count = len(accuracy)
    return {
        "val/accuracy": accuracy,
        "time/simulated_s": seconds,
        "time/wall_s": [1.0] * count,
        "comm/uplink_bytes": [1e6] * count,
        "comm/downlink_bytes": [3e6] * count,
        "compute/macs": [1e9] * count,
        "time/waiting_share": [0.5] * count,
        **more,
    }


def write_run(out, label, seed, accuracy, seconds, algorithm="SynFL", note=None, cell=None, **more):
    """Write a finished run of a comparison into ``out/runs/<label>/seed_<n>``."""
    folder = out / "runs" / label / f"seed_{seed}"
    version = write_config(folder / "version_0", algorithm, seed)
    write_log(version, round_scalars(accuracy, seconds, **more))
    written = {
        "label": label,
        "cell": cell or {},
        "seed": seed,
        "command": ["fedlight", "fit", "--config", "base.yaml", "--seed_everything", str(seed)],
        "config_hash": f"{seed}abcdef0123456789",
        "status": "done",
        "wall_s": 60.0,
        "environment": {"versions": {"torch": "2.99.1"}, "python": "3.99", "processor": "abacus", "commit": None},
        "peak_memory_bytes": 250_000_000,
        "error": None,
    }
    (folder / "run.json").write_text(json.dumps(written | (note or {})))
    return folder
