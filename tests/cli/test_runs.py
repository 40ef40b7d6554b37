"""Small runs from the command line: what they print, what they write and where, and that they can be resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedlight.cli import main

FIT = ("fit", "--config", "tiny.yaml")
LAST = "out/version_0/checkpoints/last.ckpt"


def files_below(folder):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def load(path):
    return torch.load(path, weights_only=True)


def test_fit_trains_tests_and_says_where_things_are(capsys):
    assert main([*FIT, "--trainer.max_epochs", "2"]) == 0
    captured = capsys.readouterr()
    assert "round 1/2 · val accuracy 0." in captured.out
    assert "test accuracy" in captured.out
    assert LAST in captured.out
    assert captured.err == ""
    checkpoint = load(LAST)
    assert checkpoint["global_step"] == checkpoint["fedlight"]["round_idx"] == 2
    assert "max_epochs: 2" in checkpoint["fedlight"]["config"]


def test_everything_lies_under_the_run_folder():
    before = files_below(".")
    assert main(FIT) == 0
    written = files_below(".") - before
    assert all(name.startswith("out/version_0/") for name in written)
    names = {name.removeprefix("out/version_0/") for name in written}
    assert {"config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "pictures/ratio.png"} <= names


def test_tensorboard_has_the_documented_tags():
    assert main(FIT) == 0
    tags = set(EventAccumulator("out/version_0").Reload().Tags()["scalars"])
    expected = {"train/loss", "val/accuracy", "test/accuracy", "comm/uplink_bytes", "comm/downlink_bytes"}
    expected |= {"time/simulated_s", "time/wall_s", "time/waiting_share", "prune/ratio/0", "prune/ratio/mean"}
    assert expected <= tags
    assert any(tag.startswith("prune/layer_sparsity/") for tag in tags)


def test_a_resumed_run_ends_as_one_that_was_not_stopped_and_in_the_same_folder():
    assert main([*FIT, "--trainer.max_epochs", "3", "--trainer.default_root_dir", "straight"]) == 0
    assert main([*FIT, "--trainer.max_epochs", "2"]) == 0
    assert main([*FIT, "--trainer.max_epochs", "3", "--ckpt_path", LAST]) == 0
    straight, resumed = load("straight/version_0/checkpoints/last.ckpt"), load(LAST)
    for name, value in straight["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name
    assert straight["fedlight"]["clock"]["now_s"] == resumed["fedlight"]["clock"]["now_s"]
    assert [path.name for path in Path("out").iterdir()] == ["version_0"]
    events = EventAccumulator("out/version_0").Reload()
    assert {event.step for event in events.Scalars("time/simulated_s")} == {0, 1, 2}


def test_two_processes_print_once_and_give_the_run_of_one(tmp_path):
    assert main([*FIT, "--trainer.max_epochs", "2", "--trainer.default_root_dir", "one"]) == 0
    command = [sys.executable, "-m", "fedlight.cli", *FIT, "--trainer.max_epochs", "2", "--trainer.devices", "2"]
    command += ["--trainer.strategy", "ddp"]
    # A callback that waits for the other process on one side only would hang.
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Run finished") == 1
    assert result.stdout.count("round 2/2") == 1
    one, two = load("one/version_0/checkpoints/last.ckpt"), load(LAST)
    for name, value in one["state_dict"].items():
        assert torch.equal(two["state_dict"][name], value), name
    assert Path("out/version_0/pictures/ratio.png").is_file()
    assert len(list(Path("out").iterdir())) == 1


def test_validate_and_test_read_a_checkpoint(capsys):
    assert main([*FIT, "--test_after_fit", "false"]) == 0
    assert "test accuracy" not in capsys.readouterr().out
    assert main(["validate", *FIT[1:], "--ckpt_path", LAST]) == 0
    assert "val/accuracy" in capsys.readouterr().out
    assert main(["test", *FIT[1:], "--ckpt_path", LAST]) == 0
    assert "test/accuracy" in capsys.readouterr().out


def test_printed_config_is_a_config(capsys, tmp_path):
    assert main([*FIT, "--print_config"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert main(["fit", "--config", "printed.yaml"]) == 0


def test_the_composition_names_classes_that_get_their_last_argument_later(capsys):
    local = "--model.algorithm.local"
    scheduler = (f"{local}.lr_scheduler", "torch.optim.lr_scheduler.StepLR")
    steps = (f"{local}.lr_scheduler.step_size", "7")
    assert main([*FIT, "--model.algorithm", "FedAvg", local, "LeanLoop", *scheduler, *steps, "--print_config"]) == 0
    made_of = capsys.readouterr().out.partition("is made of")[2]
    given = yaml.safe_load("\n".join(line.removeprefix("#") for line in made_of.splitlines()))
    scheduler_given = given["init_args"]["local"]["init_args"]["lr_scheduler"]
    assert scheduler_given["class_path"] == "torch.optim.lr_scheduler.StepLR"
    assert scheduler_given["init_args"]["step_size"] == 7


def test_the_saved_config_repeats_the_run():
    assert main(FIT) == 0
    assert main(["fit", "--config", "out/version_0/config.yaml", "--trainer.default_root_dir", "again"]) == 0
    first, again = load(LAST), load("again/version_0/checkpoints/last.ckpt")
    assert all(torch.equal(value, again["state_dict"][name]) for name, value in first["state_dict"].items())


def test_without_a_folder_the_run_is_named_after_its_config(config):
    config(Path("tiny.yaml").read_text().replace("  default_root_dir: out\n", ""))
    assert main(["fit", "--config", "other.yaml"]) == 0
    assert Path("runs/other/version_0/config.yaml").is_file()


def test_a_module_of_the_users_own_in_the_working_folder(config, capsys):
    Path("my_net.py").write_text(
        "import torch, lightning\n"
        "class MyNet(lightning.LightningModule):\n"
        "    def __init__(self, width: int = 16):\n"
        "        super().__init__()\n"
        "        self.example_input_array = torch.zeros(2, 1, 8, 8)\n"
        "        self.hidden = torch.nn.Linear(64, width)\n"
        "        self.head = torch.nn.Linear(width, 10)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.hidden(x.flatten(1)).relu())\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])\n"
        "    def validation_step(self, batch, batch_idx):\n"
        "        self.log('val/loss', torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))\n"
        "    test_step = validation_step\n"
        "    def configure_optimizers(self):\n"
        "        return torch.optim.SGD(self.parameters(), lr=0.1)\n"
    )
    own = ("--model.client", "my_net.MyNet", "--model.client.width", "24")
    assert main([*FIT, *own]) == 0
    assert "val loss" in capsys.readouterr().out
    # It logs no accuracy, so the best checkpoint is that of the least loss.
    saved = load("out/version_0/checkpoints/best.ckpt")
    assert saved["state_dict"]["client.hidden.weight"].shape == (24, 64)
    assert main(["export", "--ckpt_path", LAST, "--ratio", "0.5", "--out", "onnx"]) == 0
    assert json.loads(Path("onnx/manifest.json").read_text())["kept_units"]["hidden"]["of"] == 24


def test_a_module_that_breaks_is_named_with_its_line(capsys):
    Path("bad_net.py").write_text(
        "from fedlight.models import ConvNet\n"
        "class Bad(ConvNet.__mro__[1]):\n"
        "    def __init__(self):\n"
        "        raise KeyError('no such key')\n"
        "    def forward(self, x): ...\n"
    )
    assert main([*FIT, "--model.client", "bad_net.Bad"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("fedlight: fit failed: KeyError: 'no such key' (")
    assert "bad_net.py:4); FEDLIGHT_DEBUG=1 shows the traceback" in captured.err


def test_of_an_error_inside_torch_the_line_of_the_users_module_is_shown(capsys):
    Path("narrow_net.py").write_text(
        "import torch\n"
        "from fedlight.models import MLP\n"
        "class Narrow(torch.nn.Linear):\n"
        "    pass\n"
        "class Net(MLP.__mro__[1]):\n"
        "    def __init__(self):\n"
        "        super().__init__(10, torch.zeros(2, 1, 4, 4))\n"
        "        self.hidden = Narrow(16, 8)\n"
        "        self.head = torch.nn.Linear(8, 10)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.hidden(x.flatten(1)).relu())\n"
    )
    assert main([*FIT, "--model.client", "narrow_net.Net"]) == 1
    assert "narrow_net.py:11); FEDLIGHT_DEBUG=1 shows the traceback" in capsys.readouterr().err


def test_a_refused_run_leaves_no_files(capsys):
    assert main([*FIT, "--model.algorithm.clients_per_round", "5"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert files_below("out") == set()


def test_the_traceback_is_there_on_request(capsys, monkeypatch):
    monkeypatch.setenv("FEDLIGHT_DEBUG", "1")
    assert main([*FIT, "--ckpt_path", "none"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_callbacks_of_the_config_replace_ours(config, capsys):
    file = config(
        """\
        trainer:
          callbacks:
          - class_path: fedlight.tracking.RoundProgress
            init_args: {every_n_rounds: 2}
          - class_path: lightning.pytorch.callbacks.ModelCheckpoint
            init_args: {filename: mine}
        """
    )
    assert main([*FIT, "--config", file, "--trainer.max_epochs", "5"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("round ")]
    assert [line.split("/")[0] for line in lines] == ["round 1", "round 2", "round 4", "round 5"]
    assert {path.name for path in Path("out/version_0/checkpoints").iterdir()} == {"mine.ckpt"}


def test_early_stopping_works(config):
    file = config(
        """\
        trainer:
          callbacks:
          - class_path: lightning.pytorch.callbacks.EarlyStopping
            init_args: {monitor: val/accuracy, mode: max, stopping_threshold: 0.0}
        """
    )
    assert main([*FIT, "--config", file, "--trainer.max_epochs", "5"]) == 0
    assert load(LAST)["global_step"] == 1


def test_profile_prices_and_times(capsys):
    assert main(["profile", "--config", "tiny.yaml", "--ratios", "0", "0.5", "--steps", "3"]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")]
    full, half = (row for row in rows if row[0] in ("0", "0.5"))
    # Conv 1-16-32 and 512-64-10: 160 + 4,640 + 32,832 + 650; at .5 conv 1-8-16 and 256-32-10.
    assert full[2] == "38,282"
    assert half[2] == f"{8 * 10 + 16 * 73 + 256 * 32 + 32 + 330:,}"
    assert float(full[5]) > 0
    assert full[6] == "1.00"
    assert not Path("out").exists()


def test_help_lists_the_subcommands(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in ("fit", "validate", "test", "export", "profile"))


@pytest.mark.parametrize("name", ["fit", "export", "profile"])
def test_each_subcommand_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert "usage:" in capsys.readouterr().out


def test_exports_are_what_the_checkpoint_holds(capsys):
    assert main(FIT) == 0
    assert main(["export", "--ckpt_path", LAST, "--client", "1", "--out", "onnx/one"]) == 0
    out = capsys.readouterr().out
    assert "of client 1 after round 1" in out
    manifest = json.loads(Path("onnx/one/manifest.json").read_text())
    assert manifest["parameters"] == 38_282
    assert manifest["check"]["passed"]
    assert set(manifest["metrics"]) == {"val/accuracy", "val/loss"}
    import onnxruntime

    session = onnxruntime.InferenceSession("onnx/one/model.onnx")
    images = np.zeros((3, 1, 8, 8), dtype=np.float32)
    assert session.run(None, {"inputs": images})[0].shape == (3, 10)
    assert main(["export", "--ckpt_path", LAST, "--client", "9", "--out", "onnx/nine"]) == 2
    line = capsys.readouterr().err
    assert line == (
        "fedlight: client 9 has no submodel in this checkpoint (those of 0, 1, 2 are there); use --ratio instead\n"
    )
    assert not Path("onnx/nine").exists()
