"""A comparison whose logs are made up, worked out by hand, and looked for in all that a report writes."""

import csv
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_runs import round_scalars, write_config, write_log, write_run

from fedlight.cli import main
from fedlight.errors import ConfigError, DataError
from fedlight.report import PAGE, ReportSettings, write_report

# Rounds of SynFL take 10, 11 and 12 s, and all its seeds are better by .01; Fast's take 10 s. All have 60 s.
SYNFL, FAST = [0.30, 0.50, 0.60, 0.70, 0.75, 0.80], [0.50, 0.72, 0.80, 0.85, 0.86, 0.87]
FAST_BETTER = (0.0, 0.02, 0.01)
# Last five rounds that ended by 60 s: the last five of SynFL's seed 0, the first five of its seeds 1 and 2.
SYNFL_FINAL, FAST_FINAL = (0.67, 0.58, 0.59), (0.82, 0.84, 0.83)
COMMAND = "fedlight compare --config paper.yaml --out paper"


def write_comparison(out):
    for seed in range(3):
        seconds = [(10 + seed) * (number + 1) for number in range(6)]
        write_run(out, "SynFL", seed, [value + 0.01 * seed for value in SYNFL], seconds)
        ratios = {"prune/ratio/0": [0.5] * 6, "prune/ratio/1": [0.25] * 6, "prune/layer_sparsity/conv1": [0.4] * 6}
        seconds = [10.0 * (number + 1) for number in range(6)]
        write_run(out, "Fast", seed, [value + FAST_BETTER[seed] for value in FAST], seconds, "SpeedRatio", **ratios)
    for seed, accuracy in enumerate(([0.6, 0.7], [0.5, 0.6])):
        write_run(out, "Rare", seed, accuracy, [30.0, 60.0], "UPFL")
    write_run(out, "Broken", 0, [0.1], [10.0], note={"status": "failed", "error": "loss is not finite"})
    (out / "comparison.yaml").write_text(
        f"title: Fast or rare\nbaseline: SynFL\ntargets: [0.7, 0.86]\nmetric: val/accuracy\ncommand: {COMMAND}\n"
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    write_comparison(folder)
    assert write_report(folder) == folder / PAGE
    return folder


def markdown(out, name):
    """Label to cells of a table."""
    lines = [line for line in (out / "tables" / f"{name}.md").read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip().strip("*\\") for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].replace("*", ""): dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def half(values):
    return stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)


def test_final_accuracy_with_its_interval(out):
    table = markdown(out, "final")
    shown = "final (%), within 60.0 s"
    assert table["SynFL"][shown] == f"61.33 ± {100 * half(SYNFL_FINAL):.2f}"
    assert table["Fast"][shown].strip("*") == f"83.00 ± {100 * half(FAST_FINAL):.2f}"
    assert table["Rare"][shown] == f"60.00 ± {100 * half((0.65, 0.55)):.2f}"


def test_difference_is_paired_and_marked(out):
    differences = [0.15, 0.26, 0.24]
    shown = (out / "tables" / "final.md").read_text()
    assert rf"| +21.67 ± {100 * half(differences):.2f}\* |" in shown
    # Two pairs are not tested: -.02 and +.02 - .05.
    assert f"| −2.50 ± {100 * half((-0.02, -0.03)):.2f} |" in shown
    assert "the time that all runs have" in shown
    assert r"\* differs from SynFL: p < 0.05 in a paired t-test over at least 3 seeds" in shown


def test_time_to_targets_with_ties_and_those_that_never_get_there(out):
    table = markdown(out, "time")
    seconds = "simulated s, to 70 %"
    assert table["SynFL"][seconds] == f"44.0 ± {half((40, 44, 48)):.1f}"
    assert table["Fast"][seconds] == "20.0 ± 0"
    assert table["Rare"][seconds] == "60.0 (1 of 2)"  # a tie in seed 0
    assert table["SynFL"]["simulated s, to 86 %"] == "never (0 of 3)"
    assert table["Fast"]["simulated s, to 86 %"].strip("*") == f"43.3 ± {half((50, 40, 40)):.1f}"
    assert markdown(out, "wall")["SynFL"]["to 70 %, wall s"] == "4.0 ± 0"


def test_speed_up_is_the_geometric_mean_of_pairs(out):
    logs = np.log([2.0, 2.2, 2.4])
    low, high = np.exp(stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs)))
    table = (out / "tables" / "time.md").read_text()
    assert rf"| {np.exp(logs.mean()):.3g}× [{low:.3g}, {high:.3g}]\* |" in table
    assert "| 0.667× (1 of 2) |" in table
    assert "speed-up, to 86 %" not in markdown(out, "time")["Fast"]  # the baseline never got there


def test_costs(out):
    row = markdown(out, "cost")["Fast"]
    assert list(row.values())[1:] == ["6 MB", "18 MB", "6 GMAC", "50 %", "1 min 0 s", "250 MB"]
    # SynFL's seeds 1 and 2 have five rounds within the common time.
    assert markdown(out, "cost")["SynFL"]["training work, within 60.0 s"] == "5.33 GMAC"


def test_rows_of_runs(out):
    with (out / "runs.csv").open() as file:
        rows = {(row["label"], row["seed"]): row for row in csv.DictReader(file)}
    assert len(rows) == 8
    row = rows["SynFL", "1"]
    assert float(row["final"]) == pytest.approx(0.58, abs=1e-6)
    assert (float(row["reached_0.7_s"]), row["reached_0.86_s"]) == (44.0, "")
    assert (float(row["end_s"]), row["num_rounds"], float(row["uplink_bytes"])) == (66.0, "6", 5e6)


def test_results_hold_every_logged_value_once(out):
    results = pd.read_parquet(out / "results.parquet")
    assert len(results) == 3 * 6 * 7 + 3 * 6 * 10 + 2 * 2 * 7
    pd.testing.assert_frame_equal(results, pd.read_csv(out / "results.csv", keep_default_na=False), check_dtype=False)


def test_latex_is_a_booktabs_table(out):
    text = (out / "tables" / "final.tex").read_text()
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\cmidrule(lr){3-5}", "$^{*}$", r"$\pm$", r"final (\%)"):
        assert part in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in rows} == {7}
    assert not re.search(r"(?<!\\)[%&_#](?!\s)", body.replace(r"\%", ""))


def test_pictures_are_there_in_every_format(out):
    for name in ("over_time", "over_bytes", "front", "ratios", "sparsity"):
        for suffix, start in ((".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
            assert (out / "pictures" / f"{name}{suffix}").read_bytes().startswith(start)


class Page(HTMLParser):
    """Text and links of a page."""

    def __init__(self, html):
        super().__init__()
        self.words, self.links, self.tags, self.ids = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href", "srcset", "data")]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace("\xa0", " ").split())


@pytest.fixture(scope="module")
def page(out):
    return Page((out / PAGE).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "fact",
    [
        "Fast or rare",
        "SynFL", "Fast", "Rare",
        "against the baseline SynFL",
        "Digits – 1,797 handwritten digits",
        "4 clients",
        "DirichletByClient(alpha=0.5)",
        "High(noise=0.1)",
        "7 of 20 clients at 40 GFLOP/s",
        "ConvNet(lr=0.1, variant=digits)",
        "Seeds 0, 1, 2",
        "val/accuracy of 70 %, 86 %",
        COMMAND,
        "fedlight fit --config base.yaml --seed_everything 1",
        "After 60 simulated seconds, Fast has the best val/accuracy: 83.00",
        "70 % is reached first by Fast, after 20 simulated seconds, 2.19 times as fast as SynFL (significant, p =",
        "86 % is reached first by Fast, after 43.3 simulated seconds; SynFL never reaches it; never by Rare.",
        "two-sided paired t-test", "Holm", "Wilcoxon",
        "Broken · seed 0: failed (loss is not finite)",
        "torch 2.99.1", "abacus",
        "8 min 0 s over 8 runs",
        "0abcdef012",
    ],
)  # fmt: skip
def test_a_reader_of_the_page_alone_can_tell(page, fact):
    assert fact in page.text


def test_the_page_says_which_differences_are_significant_and_how_sure(page):
    final = stats.ttest_rel(FAST_FINAL, SYNFL_FINAL).pvalue
    soon = stats.ttest_1samp(np.log([2.0, 2.2, 2.4]), 0).pvalue
    assert (
        f"Significant differences from SynFL – final value: Fast (p = {final:.2g}); time to 70 %: Fast "
        f"(p = {soon:.2g}); time to 86 %: none." in page.text
    )


def test_the_page_needs_nothing_else(page):
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))


def test_the_page_says_why_pictures_are_left_out(page):
    assert "Timeline of one round Left out: no run has times of single clients (jobs.csv) beside its log." in page.text
    assert "Contribution against data quality Left out" in page.text


def test_runs_that_still_go_are_left_out_and_named(tmp_path):
    write_run(tmp_path, "SynFL", 0, [0.5], [1.0])
    write_run(tmp_path, "SynFL", 1, [0.9], [1.0], note={"status": "running"})
    assert "SynFL · seed 1: running" in Page(write_report(tmp_path).read_text()).text
    assert markdown(tmp_path, "final")["SynFL"]["seeds"] == "1"


def test_timeline_and_contributions_where_they_are_logged(tmp_path):
    scores = {"contribution/0": [0.1, 0.3], "contribution/1": [0.5, 0.7], "contribution/mean": [0.3, 0.5]}
    folder = write_run(tmp_path, "FedMP", 0, [0.5, 0.6], [10.0, 20.0], **scores)
    (folder / "version_0" / "clients.csv").write_text("client,examples,label_noise,class_0\n0,9,0.2,4\n1,9,0.0,5\n")
    heads = "round,client,device,dispatched_s,download_s,compute_s,upload_s,event_s,staleness,ratio,cause,energy_j"
    lines = [
        "0,0,slow,0,1,7,2,10,0,0,,1,1,10",
        "1,0,slow,10,1,7,2,20,0,0,,1,1,20",
        "1,1,fast,10,1,1,1,12,0,0,left,1,0,20",
    ]
    (folder / "version_0" / "jobs.csv").write_text("\n".join([heads + ",weight,aggregated_s", *lines]) + "\n")
    page = Page(write_report(tmp_path).read_text())
    assert "FedMP, round 1" in page.text
    assert {"timeline", "contributions"} <= set(page.ids)
    assert "label noise" in page.text


def test_old_and_foreign_runs_stand_side_by_side(tmp_path, capsys):
    write_log(write_config(tmp_path / "ours" / "version_0", "FedPace"), round_scalars([0.5, 0.8], [5.0, 9.0]))
    write_log(tmp_path / "theirs" / "seed_0", {"val/accuracy": [0.4, 0.8], "time/simulated_s": [5.0, 10.0]})
    folders = [f"{tmp_path / name}" for name in ("ours", "theirs")]
    code = main(["report", *folders, "--out", f"{tmp_path / 'out'}", "--targets", ".8", "--baseline", "theirs"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert captured.out == f"report: {tmp_path / 'out' / PAGE}\n"
    assert markdown(tmp_path / "out", "time")["FedPace"]["speed-up, to 80 %"] == "1.11×"
    text = Page((tmp_path / "out" / PAGE).read_text()).text
    assert "Nothing is tested: fewer than 3 seeds of any variant can be paired with those of theirs" in text
    assert "Fewer than 3 seeds: nothing is tested, and nothing is marked." in text
    assert "val/accuracy over bytes Left out: not all runs have logged the bytes that they sent." in text
    assert f"fedlight fit --config {tmp_path / 'ours' / 'version_0' / 'config.yaml'}" in text
    assert "1 of 2 runs have no config.yaml" in text


def test_targets_are_chosen_from_the_baseline(tmp_path):
    write_run(tmp_path, "SynFL", 0, [0.5, 0.777], [1.0, 2.0])  # final .6385
    text = Page(write_report(tmp_path).read_text()).text
    assert "val/accuracy of 57 %, 63 % (none was given" in text


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no folder .*runs"):
        write_report(tmp_path)
    write_run(tmp_path, "SynFL", 0, [0.5], [1.0])
    with pytest.raises(ConfigError, match="no run is labelled FedAvg; --baseline takes SynFL"):
        write_report(tmp_path, settings=ReportSettings(baseline="FedAvg"))
    with pytest.raises(ConfigError, match="no run has logged val/f1; --metric takes val/accuracy"):
        write_report(tmp_path, settings=ReportSettings(metric="val/f1"))
    folder = write_run(tmp_path, "FedMP", 0, [0.5], [1.0])
    write_log(folder / "version_1", {"contribution/0": [0.5]})
    (folder / "clients.csv").write_text("who,what\n1,2\n")
    with pytest.raises(DataError, match=r"clients\.csv has no column client; mend or remove it"):
        write_report(tmp_path)
    for label in ("SynFL", "FedMP"):
        write_run(tmp_path, label, 0, [0.5], [1.0], note={"status": "failed", "error": "boom"})
    with pytest.raises(ConfigError, match=r"none of 2 runs has finished \(FedMP · seed 0: failed \(boom\)\)"):
        write_report(tmp_path)


def test_a_report_is_not_overwritten_unasked(tmp_path, capsys):
    write_run(tmp_path, "SynFL", 0, [0.5], [1.0])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / PAGE).write_text("old")
    assert main(["report", f"{tmp_path}", "--out", f"{tmp_path / 'out'}"]) == 2
    assert "holds report.html already; choose another folder, or replace it by --overwrite" in capsys.readouterr().err
    assert main(["report", f"{tmp_path}", "--out", f"{tmp_path / 'out'}", "--overwrite"]) == 0
    assert (tmp_path / "out" / PAGE).read_text() != "old"
    assert main(["report", f"{tmp_path}", "--out", f"{tmp_path / 'out' / PAGE}"]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err
