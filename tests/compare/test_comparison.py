"""What a comparison file may say, and which runs come of it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fedlight.compare import Choice, Comparison, Stop, Variant, plan_runs
from fedlight.compare.plan import file_name
from fedlight.errors import ConfigError

OUT = Path("out")


def plan(**settings):
    comparison = Comparison(base="base.yaml", **settings)
    comparison.check()
    return plan_runs(comparison, Path("base.yaml"), OUT)


def options(run):
    """The settings of a run by key, the last of each; those of callbacks aside."""
    found, arguments = {}, list(run.arguments)
    while arguments:
        argument = arguments.pop(0)
        if argument.startswith("--") and "=" not in argument and not argument.startswith("--trainer.callbacks"):
            found[argument[2:]] = arguments.pop(0)
    return found


def test_every_variant_in_every_cell_with_every_seed_those_of_a_seed_together():
    runs = plan(algorithms=["A", "B"], axes={"model.fleet": ["High", "TX2"]}, seeds=[5, 7])
    assert [(run.seed, run.cell["fleet"], run.label) for run in runs] == [
        (5, "High", "A"), (5, "High", "B"), (5, "TX2", "A"), (5, "TX2", "B"),
        (7, "High", "A"), (7, "High", "B"), (7, "TX2", "A"), (7, "TX2", "B"),
    ]  # fmt: skip
    assert runs[-1].folder == OUT / "runs" / "B" / "fleet=TX2" / "seed_7"
    told = options(runs[-1])
    assert (told["model.algorithm"], told["model.fleet"], told["seed_everything"]) == ("B", "TX2", "7")
    assert told["trainer.default_root_dir"] == str(runs[-1].folder)


def test_without_axes_there_is_no_folder_for_a_cell():
    (run,) = plan(algorithms=["my.module.Own"], seeds=[0])
    assert (run.label, run.cell, run.folder) == ("Own", {}, OUT / "runs" / "Own" / "seed_0")
    assert options(run)["model.algorithm"] == "my.module.Own"


def test_a_variant_has_what_its_algorithm_has_and_its_own_after_that():
    runs = plan(
        algorithms=[Choice("base", "FedLight", {"discount": 0.9, "round_to": 1})],
        variants=[
            Variant("ablation", "base", {"model.algorithm.round_to": 8, "model.algorithm.contribution": None}),
            Variant("plain", None, {"data.batch_size": 5}),
        ],
        set={"model": {"algorithm.discount": 0.5}, "data.batch_size": 9},
        seeds=[0],
    )
    base, ablation, plain = (options(run) for run in runs)
    assert (base["model.algorithm.discount"], base["model.algorithm.round_to"]) == ("0.9", "1")
    assert (ablation["model.algorithm.discount"], ablation["model.algorithm.round_to"]) == ("0.9", "8")
    assert ablation["model.algorithm.contribution"] == "null"
    assert (base["data.batch_size"], plain["data.batch_size"]) == ("9", "5")
    assert "model.algorithm" not in plain
    # A class has to come before its options.
    order = [argument for argument in runs[1].arguments if argument.startswith("--model.algorithm")]
    assert order[0] == "--model.algorithm"


def test_two_axes_are_a_grid_and_named_values_may_set_several_keys():
    axes = {
        "data.partition": [{"class_path": "Shards"}, "IID"],
        "size": {"small": {"data.num_clients": 5, "data.batch_size": 2}, "large": {"data": {"num_clients": 50}}},
    }
    runs = plan(algorithms=["A"], axes=axes, seeds=[0])
    assert [run.cell for run in runs] == [
        {"partition": partition, "size": size} for partition in ("Shards", "IID") for size in ("small", "large")
    ]
    assert runs[0].folder == OUT / "runs" / "A" / "partition=Shards,size=small" / "seed_0"
    assert options(runs[0])["data.partition"] == '{"class_path": "Shards"}'
    assert options(runs[0])["data.batch_size"] == "2"
    assert options(runs[1])["data.num_clients"] == "50"


def test_when_a_run_ends_is_told_to_a_callback_and_the_round_limit_to_the_trainer():
    (run,) = plan(algorithms=["A"], seeds=[0], stop=Stop(target=0.8, simulated_s=360, rounds=9))
    assert options(run)["trainer.max_epochs"] == "9"
    stop = run.arguments.index("--trainer.callbacks+=StopAt")
    assert run.arguments[stop + 1 : stop + 4] == (
        "--trainer.callbacks.simulated_s=360",
        "--trainer.callbacks.metric=val/accuracy",
        "--trainer.callbacks.target=0.8",
    )
    (run,) = plan(algorithms=["A"], seeds=[0])
    assert "--trainer.callbacks+=StopAt" not in run.arguments


def test_values_are_written_as_options_say_them():
    (run,) = plan(algorithms=["A"], seeds=[0], set={"a": "1", "b": "x: y", "c": "-z", "d": True, "e": [1], "f": -1})
    told = options(run)
    assert (told["a"], told["b"], told["d"], told["e"]) == ("1", "x: y", "true", "[1]")
    assert "--c=-z" in run.arguments
    assert "--f=-1" in run.arguments


def test_a_shell_line_gives_back_the_arguments():
    (run,) = plan(algorithms=[Choice("it's $HOME", "A")], seeds=[0])
    words = shlex.split(run.shell_line(Path("a b.ckpt")))
    assert words == ["OMP_NUM_THREADS=1", "fedlight", *run.arguments, "--ckpt_path", "a b.ckpt"]


@pytest.mark.parametrize(
    ("text", "name"), [("FedLight w/o r", "FedLight_w_o_r"), ("λ=.5", "λ=.5"), ("../x", "x"), ("//", "_")]
)
def test_labels_become_names_of_folders(text, name):
    assert file_name(text) == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "algorithms: there is nothing to compare; list algorithms, or variants"),
        ({"algorithms": ["A", "A"]}, "algorithms, variants: two are called A; give one of them another label"),
        (
            {"algorithms": ["A"], "variants": [Variant("A")]},
            "algorithms, variants: two are called A; give one of them another label",
        ),
        (
            {"algorithms": [Choice("a b", "A"), Choice("a/b", "A")]},
            "algorithms, variants, axes: a b, seed 0 and a/b, seed 0 would both lie in out/runs/a_b/seed_0; rename one",
        ),
        ({"algorithms": ["A"], "seeds": []}, "seeds: there are none; list at least one, three or more to tell"),
        ({"algorithms": ["A"], "seeds": [1, 1]}, "seeds: 1 is listed twice; list each seed once"),
        ({"algorithms": ["A"], "seeds": [-1]}, "seeds: -1 is negative; give numbers >= 0"),
        (
            {"algorithms": ["A"], "variants": [Variant("B", None, {"seed_everything": 3})]},
            "variants (B): seed_everything is set, but runs are paired by seed, so all variants share the seeds; list "
            "them under seeds",
        ),
        ({"algorithms": ["A"], "set": {"model": {"seed": 3}}}, "set: model.seed is set, but runs are paired by seed"),
        ({"algorithms": ["A"], "axes": {"data.seed": [3]}}, "axes: data.seed is set, but runs are paired by seed"),
        (
            {"algorithms": ["A"], "axes": {"x": {"y": {"trainer.default_root_dir": "z"}}}},
            "axes.x (y): trainer.default_root_dir is set, but the comparison sets it; give the folder of all runs by",
        ),
        ({"algorithms": ["A"], "axes": {"x": []}}, "axes.x: it has no values; list some, or leave it out"),
        (
            {"algorithms": ["A"], "axes": {"a.x": [{"class_path": "C"}, {"class_path": "C"}]}},
            "axes.a.x: two values are called C; name them: x: {NAME: {a.x: VALUE}, ...}",
        ),
        (
            {"algorithms": ["FedMP"], "variants": [Variant("B", "FedM")]},
            "variants (B): of is FedM, which is no label of algorithms; did you mean FedMP?",
        ),
        (
            {"algorithms": ["FedMP"], "baseline": "SynFL"},
            "baseline is SynFL, which is no label of algorithms or variants; there are FedMP",
        ),
        ({"algorithms": ["A"], "metric": "accuracy"}, "metric is accuracy, which no round logs; did you mean val/acc"),
        (
            {"algorithms": ["A"], "metric": "test/accuracy"},
            "metric is test/accuracy, which no round logs; test metrics",
        ),
        ({"algorithms": ["A"], "targets": [80]}, "targets: 80 is no accuracy; give a fraction, as 0.8 for 80 %"),
        ({"algorithms": ["A"], "stop": Stop(target=0.0)}, "stop.target: 0 is no accuracy; give a fraction"),
        ({"algorithms": ["A"], "targets": [float("nan")]}, "targets: nan is no value that val/accuracy could reach"),
        ({"algorithms": ["A"], "stop": Stop(simulated_s=0)}, "stop.simulated_s is 0; give seconds > 0"),
        ({"algorithms": ["A"], "stop": Stop(rounds=0)}, "stop.rounds is 0; give 1 or more"),
        ({"algorithms": ["A"], "jobs": 0}, "jobs is 0; give 1 or more"),
        ({"algorithms": ["A"], "threads_per_job": 0}, "threads_per_job is 0; give 1 or more"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ConfigError) as refusal:
        plan(**settings)
    assert str(refusal.value).startswith(message)


def test_a_metric_that_is_no_share_may_have_any_target():
    plan(algorithms=["A"], metric="val/loss", targets=[2.5], stop=Stop(target=1.5))
