"""What a report takes from comparisons, what from the user, and what it does where neither fits the runs."""

import math

import pytest
from synthetic_runs import write_log, write_run

from fedlight.cli import main
from fedlight.errors import ConfigError, DataError
from fedlight.report import PAGE, ReportSettings, write_report
from fedlight.report.page import _swatch
from fedlight.report.settings import complete
from fedlight.report.style import looks, wrapped


def rows_of(out, name):
    """Label to cells of a table, in the table's order."""
    lines = [line for line in (out / "tables" / f"{name}.md").read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip().strip("*") for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def comparison(out, text="", labels=("SynFL", "FedMP")):
    for label in labels:
        write_run(out, label, 0, [0.5, 0.6], [1.0, 2.0])
    (out / "comparison.yaml").write_text(text)
    return out


def test_a_comparison_and_foreign_runs_with_all_that_can_be_amiss(tmp_path):
    out = comparison(
        tmp_path / "cmp",
        "title: The one\nalgorithms: [Base, my.own.Z, {label: b, algorithm: FedMP}, Bad]\n"
        "variants: [{label: a, of: b}]\nbaseline: Base\ncommand: fedlight compare --out cmp\ntargets: [0.5, 0.9]\n",
        ("a", "b", "Z", "SynFL"),
    )
    write_run(out, "Base", 0, [0.5], [1.0], note={"status": "failed", "error": "boom"})
    write_run(out, "Bad", 0, [0.5, math.nan, 0.7], [1.0, 2.0, 3.0])
    write_log(tmp_path / "theirs" / "seed_0", {"val/accuracy": [0.4, 0.6], "time/simulated_s": [1.0, 2.0]})
    text = write_report(tmp_path / "out", [out, tmp_path / "theirs"]).read_text()
    # The baseline first, then the file's order, then what the file doesn't name.
    assert list(rows_of(tmp_path / "out", "final")) == ["SynFL", "Z", "b", "a", "theirs"]
    assert "Bad · seed 0: val/accuracy is no number in round 1" in text
    assert "Base · seed 0: failed (boom)" in text
    assert "Base, the comparison&#39;s baseline: differences are from SynFL instead" in text
    # Neither its title nor its command is that of more than its own runs.
    assert "All of it" not in text
    assert "The one" not in text
    # Seconds that were not logged are not called never.
    table = rows_of(tmp_path / "out", "wall")
    assert table["theirs"] == {"variant": "theirs", "to 50 %, wall s": "–", "to 90 %, wall s": "never"}
    assert table["SynFL"]["to 50 %, wall s"] == "1.0"
    assert "Not logged: energy." in (tmp_path / "out" / "tables" / "cost.md").read_text()
    with pytest.raises(ConfigError, match="no run is labelled Base"):
        write_report(tmp_path / "x", [out], ReportSettings(baseline="Base"))


def test_a_table_that_would_tell_nothing_is_not_written(tmp_path):
    write_log(tmp_path / "theirs", {"val/accuracy": [0.4, 0.6], "time/simulated_s": [1.0, 2.0]})
    write_report(tmp_path / "out", [tmp_path / "theirs"], ReportSettings(targets=(0.5,)))
    assert {path.name for path in (tmp_path / "out" / "tables").glob("*.md")} == {"final.md", "time.md"}


def test_a_command_repeats_a_report_only_if_all_of_its_folders_have_one(tmp_path):
    one, two, runs = (tmp_path / name for name in ("one", "two", "runs"))
    for folder in (one, two, runs):
        folder.mkdir()
    (one / "comparison.yaml").write_text("title: The one\nalgorithms: [A, C]\ncommand: fedlight compare --out one\n")
    (two / "comparison.yaml").write_text("algorithms: [A, B]\ncommand: [fedlight, compare, --out, two]\n")
    alone = complete(ReportSettings(), [one])
    assert (alone.title, alone.command, alone.labels) == ("The one", "fedlight compare --out one", ("A", "C"))
    both = complete(ReportSettings(metric="val/f1"), [one, two])
    assert (both.title, both.metric, both.labels) == (None, "val/f1", ("A", "C", "B"))
    assert both.command == "fedlight compare --out one\nfedlight compare --out two"
    assert complete(ReportSettings(), [one, runs]).command is None
    assert complete(ReportSettings(), [runs]) == ReportSettings()


def test_a_report_of_which_no_run_is_left_is_refused(tmp_path):
    write_log(tmp_path / "x", {"val/loss": [math.inf], "time/simulated_s": [1.0]})
    with pytest.raises(DataError, match=r"no run is left \(x · seed 0: val/loss is no number in round 0\)"):
        write_report(tmp_path / "out", [tmp_path / "x"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("targets: high\n", "has targets high, which are no list of numbers; mend or remove it"),
        ("targets: [a: 1]\n", "which are no list of numbers"),
        ("a: [1\n", "is no YAML"),
    ],
)
def test_a_comparison_that_cannot_be_read_is_refused(tmp_path, text, message):
    (tmp_path / "comparison.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        complete(ReportSettings(), [tmp_path])


def test_targets_that_no_run_could_reach_are_refused(tmp_path, capsys):
    arguments = ["report", str(comparison(tmp_path)), "--out", str(tmp_path / "out"), "--targets"]
    assert main([*arguments, "80"]) == 2
    assert capsys.readouterr().err == (
        "fedlight: report: --targets: 80 is no accuracy; give a fraction, as 0.8 for 80 %\n"
    )
    assert main([*arguments, ".inf"]) == 2
    assert "inf is no value that val/accuracy could reach" in capsys.readouterr().err
    assert not (tmp_path / "out" / PAGE).exists()


def test_metrics_of_other_names_are_named(tmp_path):
    write_log(tmp_path / "x", {"acc": [0.5], "time/simulated_s": [1.0]})
    with pytest.raises(ConfigError, match="no run has logged a validation metric; --metric takes acc or time/simul"):
        write_report(tmp_path / "out", [tmp_path / "x"])


def test_variants_of_one_colour_have_other_signs():
    labels = [str(number) for number in range(25)]
    shown = looks(labels, "0")
    assert len({_swatch(look) for look in shown.values()}) == len(labels)


def test_a_long_title_stays_over_its_panel():
    assert wrapped("FedLight, squared gradient", 1.7).splitlines() == ["FedLight, squared", "gradient"]
    assert wrapped("FedMP", 1.7) == "FedMP"
