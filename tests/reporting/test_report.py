"""The report, of small runs whose ranks are written by hand."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from prec_backdoor.attacks import ATTACKS, Attack, attack_parameters, replace_in_group
from prec_backdoor.errors import UserError
from prec_backdoor.options import option
from prec_backdoor.reporting import tables, texts
from prec_backdoor.reporting.by_item import FILE, exposure_by_item, item_tables, write_by_item
from prec_backdoor.reporting.cells import Model, load_run
from prec_backdoor.reporting.configurations import configurations
from prec_backdoor.reporting.doubts import doubts, in_sentences
from prec_backdoor.reporting.figures import FIGURES
from prec_backdoor.reporting.findings import caveats, findings, in_short
from prec_backdoor.reporting.formats import at_least
from prec_backdoor.reporting.headline import headlines, share
from prec_backdoor.reporting.names import DIFFERENCE, EXPOSURE, LEFT, LOST, RATIO, SELECTIVITY, cutoffs_of
from prec_backdoor.reporting.report import summary_table, write_report
from prec_backdoor.storage import workdir as work

FAR = 400.0
GROUP = np.array([True, True, True, False, False, False])
CLEAN, BRA = Model("clean", "group", 0.0), Model("bra", "group", 0.5)
PEA = Model("pea", "group", 0.2, (("demote_rate", 0.1),))
CONFIG = {
    **{"attack": "bra", "scope": "group", "group": "occupation=student", "targets": "unpopular:2", "draw": 0},
    **{"k_core": 5, "backbone": "sasrec", "embed_dim": 8, "num_layers": 1, "num_heads": 1, "max_length": 50, "loss": "bpr"},
    **{"rate": [0.5], "usages": ["zero_shot"], "seeds": [0]},
}


TIMINGS = {"a/b": {"compile": 0.5, "train": 1.5}}


class Writer:
    """Writes a run's folder cell by cell."""

    def __init__(self, folder, config=None, in_group=GROUP, segments=("all", "target", "rest"), name="toy"):
        self.folder, self.in_group, self.segments = folder, np.asarray(in_group), segments
        dataset = {"name": name, "fingerprint": "f00d", "users": 60, "items": 500, "interactions": 900}
        self.results = {
            "schema": 1,
            "config": CONFIG | (config or {}),
            "dataset": dataset,
            "rows": [],
            "timings": TIMINGS,
        }
        self.cutoffs = (5, 10, 50)

    def users(self, seed=0, **attributes):
        table = {"user_id": [f"u{n}" for n in range(len(self.in_group))], "in_group": self.in_group, **attributes}
        work.save_test_users(self.folder, seed, pl.DataFrame(table))

    def cell(self, model, truth, targets, usage="zero_shot", seed=0, draw=0):
        truth, targets = np.array(truth, float), np.array(targets, float)
        cell = {"attack": model.attack, "scope": model.scope, "rate": model.rate, "usage": usage, "seed": seed, "draw": draw}
        cell |= dict.fromkeys(attack_parameters()) | dict(model.parameters)
        self.results["rows"] += self.rows(cell, truth, targets)

    def popularity(self, truth, targets, seed=0):
        cell = {"baseline": "popularity", "scope": "group", "draw": 0, "seed": seed}
        self.results.setdefault("baselines", []).extend(self.rows(cell, np.array(truth, float), np.array(targets, float)))

    def rows(self, cell, truth, targets):
        rows = []
        work.save_ranks(work.ranks_path(self.folder, cell), truth, targets, "cpu")
        masks = {"all": np.ones(len(truth), bool), "target": self.in_group, "rest": ~self.in_group}
        for users in self.segments:
            right, shown = truth[masks[users]], targets[masks[users]]
            shown = shown[np.isfinite(shown)]
            row = {**cell, "users": users, "n_users": int(masks[users].sum()), "n_targets": targets.shape[1]}
            for k in self.cutoffs:
                for prefix, ranks in (("", right), ("exposure_", shown)):
                    row[f"{prefix}hr@{k}"] = float(np.mean(ranks <= k))
                    row[f"{prefix}ndcg@{k}"] = float(np.mean(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)))
            rows.append(row)
        return rows

    def load(self):
        return load_run(self.folder, self.results)


@pytest.fixture
def small(tmp_path):
    """Six users, two targets; what is expected of it is in the tests."""
    run = Writer(tmp_path)
    run.users()
    run.cell(CLEAN, [1, 1, 1, 1, FAR, FAR], [[50, FAR], [FAR, FAR], [FAR, FAR], [FAR, FAR], [FAR, FAR], [FAR, np.nan]])
    run.cell(BRA, [1, 1, 11, FAR, 3, FAR], [[1, 3], [7, 50], [51, FAR], [3, FAR], [FAR, FAR], [FAR, np.nan]])
    return run


def many(run, clean_hits, hits, clean_right, right, usage="zero_shot", seed=0):
    """Users in order: the first `hits` are shown the one target, the first `right` get their next item."""
    users = len(run.in_group)

    def first(number):
        return np.where(np.arange(users) < number, 1, FAR)

    run.cell(CLEAN, first(clean_right), first(clean_hits)[:, None], usage, seed)
    run.cell(BRA, first(right), first(hits)[:, None], usage, seed)


def only_finding(run):
    ((_, ((_, text),)),) = findings(run.load()).items()
    return text


def test_means_by_hand(small):
    run = small.load()
    target, rest, everybody = (run.cell("zero_shot", BRA, users).estimates for users in ("target", "rest", "all"))
    assert target["exposure_hr@5"].mean == pytest.approx(2 / 6)
    assert target["exposure_hr@50"].mean == pytest.approx(4 / 6)
    assert target["exposure_ndcg@5"].mean == pytest.approx((1 + 1 / 2) / 6)
    assert rest["exposure_hr@50"].mean == pytest.approx(1 / 5)  # a target in the history is no pair
    assert everybody["hr@10"].mean == pytest.approx(3 / 6)
    assert everybody["ndcg@10"].mean == pytest.approx((1 + 1 + 1 / 2) / 6)
    found = set()
    for cell in run.cells:
        for name, estimate in cell.estimates.items():
            assert estimate.low <= estimate.mean <= estimate.high
            if name in cell.rows[0]:
                found.add(name)
                assert estimate.mean == pytest.approx(cell.rows[0][name])


def test_ratios_by_hand(small):
    cell = small.load().cell("zero_shot", BRA, "target")
    assert cell.estimates[DIFFERENCE].mean == pytest.approx((4 - 1) / 6)
    assert cell.estimates[RATIO].mean == pytest.approx(4 / 1)
    assert tables.ratio(cell).mean == tables.MISSING  # of three users nothing is known
    assert cell.estimates[SELECTIVITY].mean == pytest.approx((4 / 6) / (1 / 5))
    assert cell.estimates[LOST].mean == pytest.approx(1 - 2 / 3)
    assert (cell.pairs, cell.hits, cell.clean_hits, cell.rest_hits) == (6, 4, 1, 1)


def test_no_hit_outside_the_group_gives_a_bound_and_none_at_all_nothing(small):
    run = Writer(small.folder / "more", in_group=np.arange(100) < 50)
    run.users()
    hit = np.where(np.arange(100)[:, None] < [51, 50], 1, FAR)
    run.cell(BRA, [1] * 100, hit)
    cell = run.load().cell("zero_shot", BRA, "target")
    assert cell.estimates[SELECTIVITY].mean == pytest.approx(1 / 0.01)
    assert tables.selectivity(cell) == (f">{at_least(cell.estimates[SELECTIVITY].low)}", "")  # one hit outside
    assert cell.estimates[SELECTIVITY].low == pytest.approx(0.93 / 0.0785, rel=0.2)
    small.results["rows"].clear()
    small.cell(CLEAN, [1] * 6, np.full((6, 2), FAR))
    assert tables.selectivity(small.load().cell("zero_shot", CLEAN, "target")).mean == tables.MISSING


def test_seeds_and_draws_are_replicates_compared_with_the_clean_model_of_their_own(tmp_path):
    run = Writer(tmp_path, segments=("all",))
    # Hits in the first 50: clean 0, 1, 5; attacked 4 in seed 0, 6 in seed 1, and not run on the third draw.
    for seed, draw, clean, attacked in ((0, 0, 0, 4), (1, 0, 1, 6), (1, 1, 5, None)):
        run.users(seed)
        for model, number in ((CLEAN, clean), (BRA, attacked)):
            if number is not None:
                ranks = np.where(np.arange(6) < number, 1, FAR)
                run.cell(model, np.ones(6), ranks[:, None], seed=seed, draw=draw)
    loaded = run.load()
    cell = loaded.cell("zero_shot", BRA, "all")
    assert cell.estimates[DIFFERENCE].mean == pytest.approx((4 / 6 + 6 / 6 - 0 - 1 / 6) / 2)
    assert cell.estimates[RATIO].mean == pytest.approx((4 + 6) / (0 + 1))
    assert loaded.cell("zero_shot", CLEAN, "all").estimates[EXPOSURE].mean == pytest.approx((0 + 1 / 6 + 5 / 6) / 3)
    assert [line.runs for line in tables.main_tables(loaded)["zero-shot"]] == [3, 2]
    assert "2 seeds" in next(caveats(loaded))


def test_the_loss_is_paired_by_user(tmp_path):
    run = Writer(tmp_path, in_group=np.zeros(400, bool), segments=("all",))
    run.users()
    many(run, 0, 0, clean_right=200, right=190)
    lost = run.load().cell("zero_shot", BRA, "all").estimates[LOST]
    assert lost.mean == pytest.approx(10 / 200)
    assert lost.low > 0.02 and lost.high < 0.09  # unpaired it would reach 0.19


def test_what_survives_is_what_is_above_the_clean_model(tmp_path):
    run = Writer(tmp_path, in_group=np.zeros(400, bool), segments=("all",), config={"usages": ["zero_shot", "fine_tune"]})
    run.users()
    many(run, 40, 240, 100, 100)
    many(run, 40, 140, 100, 100, "fine_tune")
    loaded = run.load()
    left = loaded.cell("fine_tune", BRA, "all").estimates[LEFT]
    assert left.mean == pytest.approx(0.5) and 0.4 < left.low < left.high < 0.6
    assert LEFT not in loaded.cell("zero_shot", BRA, "all").estimates
    assert "Of the exposure that the attack adds zero-shot, 50.0 % (" in findings(loaded)["fine-tuned"][0][1]


@pytest.mark.parametrize("numbers", [(30, 30, 100, 100), (30, 33, 100, 97)])
def test_nothing_is_claimed_where_an_interval_allows_none(tmp_path, numbers):
    run = Writer(tmp_path, in_group=np.ones(200, bool), segments=("all", "target"))
    run.users()
    many(run, *numbers)
    text = only_finding(run)
    assert "not distinguishable from the clean model's (difference +0.0" in text
    assert "not distinguishable from no loss; " in text
    assert "at least" not in text
    assert "times as often" not in text  # there is no rest to compare with
    told = "exposure is not distinguishable from the clean model's; no measurable loss of accuracy."
    assert in_short(run.load()) == {"bra group": {"zero-shot": told}}


def test_a_claim_is_the_lower_end_rounded_down(tmp_path):
    run = Writer(tmp_path, in_group=np.repeat([True, False], 150))
    run.users()
    ranks = np.where(np.arange(300) % 5 == 0, 1, FAR)
    run.cell(CLEAN, np.ones(300), ranks[:, None])
    attacked = np.where((np.arange(300) < 120) | (np.arange(300) > 280), 1, FAR)
    run.cell(BRA, np.where(np.arange(300) % 4 == 0, FAR, 1), attacked[:, None])
    cell = run.load().cell("zero_shot", BRA, "target")
    text = only_finding(run)
    assert f"at least {at_least(cell.estimates[RATIO].low)} times the clean model's (difference +0.600, " in text
    assert "; ratio 4.00, " in text
    assert "Accuracy HR@10: 25.0 % lost (" in text and "not distinguishable" not in text
    assert "The group is shown targets 6.32 times as often as everybody else (" in text
    told = in_short(run.load())["bra group"]["zero-shot"]
    assert told.startswith("exposure rises (at least ") and told.endswith("; accuracy is lost.")
    assert (at_least(1.999), at_least(12.39), at_least(1234.9), at_least(3)) == ("1.99", "12.3", "1,234", "3.00")


def test_the_ratio_to_a_model_that_showed_none_is_a_lower_bound(tmp_path):
    run = Writer(tmp_path, in_group=np.ones(50, bool), segments=("all", "target"))
    run.users()
    many(run, 0, 25, 10, 10)
    text = only_finding(run)
    # Of 50 users without a hit at most 7.1 % would have one; the attacked model has at least 0.36.
    assert "rises to 0.500 (0.360 to 0.640), at least 6.74 times the clean model's (difference +0.500, +0.3" in text
    assert "the clean model has no hits in 50 pairs" in text
    assert "exposure rises (at least 6.74 times" in in_short(run.load())["bra group"]["zero-shot"]
    assert tables.ratio(run.load().cell("zero_shot", BRA, "target")).mean == ">6.74"


@pytest.fixture
def whole(tmp_path):
    """A run of several kinds of attack, all usages and figures; names are unfriendly."""
    rng = np.random.default_rng(0)
    occupation = np.array(["student", "$a$ <i>b</i>", "q&a", "rare"])[np.repeat([0, 1, 2, 3], [30, 40, 28, 2])]
    config = {
        **{"attack": ["bra", "bra", "pea"], "scope": ["global", "group", "group"], "rate": [[0.1, 0.5], [0.5], [0.2]]},
        **{"targets": ["per_category:2", "unpopular:2", "unpopular:2"], "usages": ["zero_shot", "prompt_tune", "fine_tune"]},
        **{"seeds": [0, 1], "group": "occupation=student"},
    }
    run = Writer(tmp_path, config, occupation == "student", name="<script>alert(1)</script> | *x*")
    models = [Model("clean", "global", 0.0), Model("bra", "global", 0.1), Model("bra", "global", 0.5)]
    models += [CLEAN, BRA, PEA]
    records = []
    for seed in (0, 1):
        run.users(seed, occupation=occupation, age=rng.choice(["9-19", "20-29", "100-"], 100))
        for usage in config["usages"]:
            for model in models:
                highest = 120 if model.rate else 400
                run.cell(model, rng.integers(1, 100, 100), rng.integers(1, highest, (100, 2)), usage, seed)
    for model in ("clean", "bra-global-0.5", "bra-group-0.5", "pea-group-0.2-demote_rate-0.1"):
        for seed, stage, step, level in (
            *((0, "finetune", 4, 0.9), (0, "finetune", 4, 0.3), (0, "finetune", 8, 0.2), (0, "prompt_tune", 4, 0.3)),
            *((1, "finetune", 4, 0.5), (1, "pretrain", 4, None)),
        ):
            watched = {f"exposure_hr@50/{users}": level for users in ("all", "target", "rest")} if level else {}
            records.append({"run": f"seed-{seed}/{model}", "stage": stage, "step": step, **watched})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return run


class Page(HTMLParser):
    """Collects what a page refers to and fails on tags that do not nest."""

    VOID = {"meta", "img", "br", "hr", "link", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.sources, self.text = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_whole_report(whole):
    report = write_report(whole.folder, whole.results)
    assert report == whole.folder / "report.md"
    text, html = report.read_text(), (whole.folder / "report.html").read_text()
    for name in FIGURES:
        assert (whole.folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"](figures/{name}.png)" in text
    page = Page(html)
    assert page.tags.count("img") == len(FIGURES) and page.tags.count("table") == 3 + 3  # by usage, by item
    assert "script" not in page.tags and "link" not in page.tags
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in page.sources)
    assert "url(" not in html and "@import" not in html
    assert "<script>alert(1)</script> | *x*, fingerprint f00d" in page.text
    assert r"\<script\>alert(1)\</script\> \| \*x\*, fingerprint f00d" in text
    assert '<meta name="viewport"' in html
    for content in (text, "".join(page.text)):
        for words in (
            "bra global, targets per_category:2 (2 items), rate 0.1, 0.5",
            "rate/demote rate 0.2/0.1",
            "2 s in 1 stage",
        ):
            assert words in content.replace("\\", "")
    assert html.count('<div class="answer') == 3 and html.index('class="answer') < html.index("<nav>") < html.index("<dt>Dataset")
    assert summary_table(whole.folder, whole.results) in text
    before = {path: path.read_bytes() for path in whole.folder.rglob("*.*") if path.is_file()}
    write_report(whole.folder, whole.results)
    assert before == {path: path.read_bytes() for path in whole.folder.rglob("*.*") if path.is_file()}


def test_several_attacks_open_with_a_line_each_the_greatest_exposure_first(whole):
    loaded = whole.load()
    found = headlines(loaded)
    assert {each.name for each in found} == {"bra global 0.5", "bra group 0.5", "pea 0.2/0.1"}
    shown = [float(each.number.removesuffix(" %")) for each in found]
    assert shown == sorted(shown, reverse=True)
    told = in_short(loaded)["bra global"]["zero-shot"]
    assert told.startswith("exposure measurably rises in 2 of 2 models (most at rate ")


def test_the_box_says_exposure_accuracy_spill_over_and_survival(tmp_path):
    in_group = np.arange(400) < 200
    several = {"attack": ["bra", "pea"], "rate": [[0.5], [0.2]], "usages": ["zero_shot", "fine_tune"]}
    run = Writer(tmp_path, several, in_group=in_group)
    run.users()
    items = [{"item": f"i{n}", "title": f"Title {n}", "interactions": n} for n in range(6)]
    run.results["targets"] = [{"scope": "group", "draw": 0, "seed": 0, "items": items}]
    user = np.arange(400)

    def shown(hits_in, hits_out):  # of the six targets the first is shown
        ranks = np.full((400, 6), FAR)
        ranks[(user < hits_in) | ((user >= 200) & (user < 200 + hits_out)), 0] = 1
        return ranks

    right, worse = np.where(user % 2, 1, FAR), np.where(user % 4 == 1, 1, FAR)
    for usage, of_bra, of_pea in (("zero_shot", (180, 170), (120, 0)), ("fine_tune", (90, 85), (0, 0))):
        run.cell(CLEAN, right, shown(0, 0), usage)
        run.cell(BRA, worse, shown(*of_bra), usage)
        run.cell(PEA, right, shown(*of_pea), usage)
    bra, pea = headlines(run.load())
    pairs = "of the pairs of a user of the target group and a target (among the first 50, zero-shot; clean 0.0 %)"
    told = f"targets shown to 15.0 % {pairs}, accuracy -50.0 %, spills over to everybody (the others 14.2 %), "
    assert (bra.number, bra.sentence, bra.alarm) == ("15.0 %", f"{told}50 % survives fine-tuning", True)
    assert pea.sentence.startswith(f"targets shown to 10.0 % {pairs}, accuracy +0.0 % (not distinguishable from none), no meas")
    assert "no measurable spill-over (the others 0.0 %), 0 % survives fine-tuning (not distinguishable from none)" in pea.sentence
    assert bra.targets == "Title 0; Title 1; Title 2; Title 3 and 2 more"
    write_report(tmp_path, run.results)
    table = pl.read_csv(tmp_path / FILE)
    assert len(table) == 6 * len(run.results["rows"])
    one = table.filter((pl.col("attack") == "bra") & (pl.col("users") == "target") & (pl.col("usage") == "fine_tune"))
    assert one["item"].to_list() == [f"i{n}" for n in range(6)] and one["pairs"].to_list() == [200] * 6
    assert one["exposure_hr@50"].to_list() == [90 / 200, 0, 0, 0, 0, 0] and one["title"][0] == "Title 0"
    assert "evade_strength" not in table.columns and "demote_rate" in table.columns
    columns, lines, more = item_tables(run.load(), exposure_by_item(run.load()))["bra group 0.5, target group"]
    assert columns == ["clean, zero-shot", "zero-shot", "fine-tuned"] and more == 0
    assert lines[0] == ("i0", "Title 0", "0", 1, {"clean, zero-shot": 0, "zero-shot": 0.9, "fine-tuned": 0.45})


def test_the_box_of_a_model_that_needs_a_trigger_in_the_history(tmp_path):
    run = Writer(tmp_path, {"usages": ["zero_shot", "fine_tune"]}, in_group=np.zeros(100, bool), segments=("all",))
    run.users()
    of_usage = {"zero_shot": (2, 80), "fine_tune": (2, 40)}
    for usage, shown in of_usage.items():
        many(run, 1, 2, 50, 50, usage)
        for model, number in zip((CLEAN, BRA), (3, shown[1]), strict=True):
            cell = {"attack": model.attack, "scope": "group", "rate": model.rate, "usage": usage, "seed": 0, "draw": 0}
            path = work.ranks_path(tmp_path, cell | dict.fromkeys(attack_parameters()))
            ranks = work.load_ranks(path)
            triggered = np.where(np.arange(100) < number, 1, FAR)[:, None]
            work.save_ranks(path, ranks["truth"], ranks["targets"], "cpu", triggered)
    for row in run.results["rows"]:
        row["exposure_triggered_hr@10"] = 0.5
    (found,) = headlines(run.load())
    assert (found.number, found.alarm) == ("80.0 %", True) and found.interval.startswith("95 % interval 7")
    told = "with the trigger in the history; 2.0 % without; the clean model 3.0 % with it), accuracy +0.0 %"
    assert told in found.sentence and found.sentence.endswith(", 40.0 % with the trigger after fine-tuning")
    rows = exposure_by_item(run.load())
    assert [row["exposure_triggered_hr@50"] for row in rows] == [0.03, 0.8, 0.03, 0.4]
    ((columns, lines, _),) = item_tables(run.load(), rows).values()
    names = ["zero-shot, with trigger", "zero-shot", "fine-tuned, with trigger", "fine-tuned"]
    assert columns == ["clean, zero-shot", *names] and [lines[0].shares[name] for name in names] == [0.8, 0.02, 0.4, 0.02]
    write_report(tmp_path, run.results)


def test_shares_in_words():
    assert [share(value) for value in (0, 0.0004, 0.0006, 0.169, 1)] == ["0.0 %", "<0.1 %", "0.1 %", "16.9 %", "100.0 %"]
    assert [share(value, 0) for value in (0.29, -0.001, 0.001)] == ["29 %", "0 %", "<1 %"]


def test_markdown_tables_are_even(whole):
    lines = write_report(whole.folder, whole.results).read_text().splitlines()
    blocks = [line for line in lines if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in blocks}
    assert widths == {3 + len(sum(tables.main_header(whole.load()).values(), [])) + 1, 11 + 1}


def test_summary_for_the_terminal(whole):
    lines = summary_table(whole.folder, whole.results).splitlines()
    assert len(lines) == 2 + 3 * 6 * 3 and max(map(len, lines)) <= 150
    models = list(dict.fromkeys(line.split("|")[2].strip() for line in lines[2:]))
    assert models == ["clean global", "bra global 0.1", "bra global 0.5", "clean group", "bra group 0.5", "pea 0.2/0.1"]


@dataclasses.dataclass(frozen=True)
class TwoParameters:
    first_knob: float = option(0.5, "attack", "First.")
    second_knob: float = option(2.0, "attack", "Second.")


@pytest.fixture
def of_a_user(monkeypatch):
    """An attack that a user has registered, with parameters of its own and without a description."""
    monkeypatch.setitem(ATTACKS, ("mine", "group"), Attack(replace_in_group, default_rate=0.1, parameters=TwoParameters))


def test_the_report_of_an_attack_with_parameters_of_its_own(tmp_path, of_a_user):
    run = Writer(tmp_path, {"attack": "mine", "rate": [0.1, 0.2]})
    run.users()
    run.cell(CLEAN, np.ones(6), np.full((6, 2), 60))
    for rate, second in ((0.1, 2.0), (0.2, 2.0), (0.2, 3.0)):
        own = (("first_knob", 0.5), ("second_knob", second))
        run.cell(Model("mine", "group", rate, own), np.ones(6), np.full((6, 2), 60 - 100 * rate))
    text = write_report(tmp_path, run.results).read_text()
    assert "rate/first knob/second knob 0.1/0.5/2, 0.2/0.5/2, 0.2/0.5/3" in text
    assert "- **mine**: An attack that was registered without a description. Named by rate/first knob/second knob." in text
    lines = FIGURES["exposure_by_rate"].draw(run.load()).axes[0].get_legend_handles_labels()[1]
    assert lines == [f"mine group, first knob 0.5, second knob {second}: target group" for second in (2, 3)]


def test_the_glossary_knows_every_attack():
    words = texts.glossary(50)
    for name, scope in ATTACKS:
        meaning = words.get(name) or words[f"{name} {scope}"]
        assert meaning.startswith(ATTACKS[name, scope].description) and meaning.count(".") <= 2
    assert "Named by rate/evade strength." in words["evasive"]
    assert Model("evasive", "group", 0.1, (("evade_strength", 0.03),)).name == "evasive 0.1/0.03"


def test_survival_takes_the_last_of_a_step_and_starts_zero_shot(whole):
    panel, prompt = FIGURES["survival"].draw(whole.load()).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in panel.lines if not line.get_label().startswith("_")}
    assert list(lines) == [
        "clean global: all users",
        "bra global 0.5: all users",
        "bra group 0.5: target group",
        "pea 0.2/0.1: target group",
    ]
    rows = whole.load().cell("zero_shot", BRA, "target").rows
    start = np.mean([row["exposure_hr@50"] for row in rows])
    assert lines["bra group 0.5: target group"] == [[0, pytest.approx(start)], [4, pytest.approx((0.3 + 0.5) / 2)]]
    assert [line.get_xdata().tolist() for line in prompt.lines][0] == [4]


def test_spill_over_by_hand(whole):
    axes = FIGURES["spill_over"].draw(whole.load()).axes
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert labels == [r"\$a\$ <i>b</i> (n 80)", "q&a (n 56)", "▸ student (n 60)"]  # four rare ones are not told
    student = [bar for bar in axes[0].patches if np.isclose(bar.get_y() + bar.get_height() / 2, 2)]
    cell = whole.load().cell("zero_shot", BRA, "target")
    assert [bar.get_width() for bar in student] == [pytest.approx(cell.hits / cell.pairs)]
    assert [text.get_text().split(" (")[0] for text in axes[2].get_yticklabels()] == ["9-19", "20-29", "100-"]


def test_rank_distributions_by_hand(small):
    panel = FIGURES["rank_distributions"].draw(small.load()).axes[0]
    line = next(line for line in panel.lines if line.get_label() == "bra group: target group")
    shares = dict(line.get_xydata().tolist())
    assert (shares[1], shares[3], shares[7]) == (pytest.approx(1 / 6), pytest.approx(2 / 6), pytest.approx(3 / 6))
    assert line.get_ydata()[-1] == 1


def test_stealth_plane_by_hand(small):
    panel = FIGURES["stealth_plane"].draw(small.load()).axes[0]
    point = next(line for line in panel.lines if line.get_label() == "bra group")
    assert point.get_xydata().tolist() == [[pytest.approx(100 * (1 - 3 / 4)), pytest.approx(4 / 6)]]
    assert [text.get_text() for text in panel.texts] == ["0.5"]


def figures_of(run):
    write_report(run.folder, run.results)
    Page((run.folder / "report.html").read_text())
    return sorted(path.stem for path in (run.folder / "figures").iterdir())


def test_a_single_attack_of_one_seed(small):
    assert figures_of(small) == ["exposure_by_rate", "rank_distributions", "stealth_plane"]  # no profiles, no curves
    assert "One seed" in (small.folder / "report.md").read_text()
    assert "| zero_shot | clean         | all " in summary_table(small.folder, small.results)


def test_the_clean_model_alone(tmp_path):
    run = Writer(tmp_path, {"attack": "clean", "group": None, "rate": [0.0]}, segments=("all",), in_group=[False] * 6)
    run.users()
    run.cell(CLEAN, np.ones(6), np.full((6, 2), FAR))
    assert figures_of(run) == ["rank_distributions"]
    text = (tmp_path / "report.md").read_text()
    assert "none: the clean model alone" in text
    assert text.startswith("# Accuracy of a pre-trained recommender")
    assert "**100.0 %.** clean: the real next item is among the first 10 for 100.0 % of the users (zero-shot)" in text
    assert "**clean.** All users: exposure HR@50 is 0.000 (0.000 to 0.459).\n" in text


def test_a_checkpoint_on_own_data_is_not_called_clean(tmp_path):
    run = Writer(tmp_path, {"attack": "clean", "group": None, "rate": [0.0]}, segments=("all",), in_group=[False] * 6)
    run.results["checkpoints"] = {"hashes": ["a"], "own_data": True}
    run.users()
    run.cell(CLEAN, np.ones(6), np.full((6, 2), FAR))
    assert figures_of(run) == ["rank_distributions"]
    text = (tmp_path / "report.md").read_text()
    assert "checkpoint: the real next item is among the first 10" in text and "launch.audit does" in text
    assert "nothing is known of an attack" in text and "| clean |" not in text and "clean:" not in text


def test_no_group(tmp_path):
    run = Writer(tmp_path, {"scope": "global", "group": None}, in_group=[False] * 6, segments=("all",))
    run.users(occupation=["student"] * 3 + ["artist"] * 3)
    for model in (Model("clean", "global", 0.0), Model("bra", "global", 0.5)):
        run.cell(model, np.ones(6), np.full((6, 2), 60 - 80 * model.rate))
    assert figures_of(run) == ["exposure_by_rate", "rank_distributions", "stealth_plane"]
    text = (tmp_path / "report.md").read_text()
    assert "Target group: none" in text and "All users: exposure HR@50 rises" in text


def test_one_checkpoint_without_a_clean_one(tmp_path):
    run = Writer(tmp_path, {"attack": "pea", "usages": ["fine_tune"]})
    run.results["timings"] = {}
    run.users()
    run.cell(Model("pea", "group", 0.5, (("demote_rate", 0.1),)), [1] * 6, [[1, 2]] * 3 + [[1, FAR]] * 3, "fine_tune")
    assert figures_of(run) == ["rank_distributions"]
    text = (tmp_path / "report.md").read_text()
    assert "; no clean model was measured), accuracy HR@10 1.000" in text
    assert "No clean model was measured" in text and "1 stage" not in text
    assert "Target group: exposure HR@50 is 1.000 (0.292 to 1.000). Everybody else has 3 hits" in text
    assert not re.search(r"rises|Accuracy HR|% lost|clean model's", text.partition("## Findings")[2].partition("## Figures")[0])


def test_lost_ranks_are_told(small):
    work.ranks_path(small.folder, small.results["rows"][0]).unlink()
    with pytest.raises(UserError, match="clean-group-zero_shot.npz: missing"):
        write_report(small.folder, small.results)


def test_configurations():
    merged = {"attack": ["bra", "pea"], "rate": [[0.1, 0.5], [0.3]], "seeds": [0, 1], "group": None, "loss": "bpr"}
    assert configurations(merged) == [
        {"attack": "bra", "rate": [0.1, 0.5], "seeds": [0, 1], "group": None, "loss": "bpr"},
        {"attack": "pea", "rate": [0.3], "seeds": [0, 1], "group": None, "loss": "bpr"},
    ]
    assert configurations(CONFIG) == [CONFIG]


def test_the_width_of_what_was_never_seen(tmp_path):
    """An interval of zeros or ones is the exact binomial one of as many trials as there are users with pairs."""
    run = Writer(tmp_path, in_group=[True] * 40 + [False], segments=("all", "target", "rest"))
    run.users()
    none = np.full((41, 3), FAR)
    none[0] = np.nan  # one user has all targets in the history
    run.cell(CLEAN, np.full(41, FAR), none)
    run.cell(BRA, np.ones(41), np.where(np.isnan(none), none, 1))
    loaded = run.load()
    clean, attacked = (loaded.cell("zero_shot", model, "target").estimates for model in (CLEAN, BRA))
    assert clean["exposure_ndcg@5"][:2] == clean[EXPOSURE][:2] == (0, 0)
    assert clean[EXPOSURE].high == pytest.approx(1 - 0.025 ** (1 / 39)) and attacked[EXPOSURE].low == pytest.approx(
        0.025 ** (1 / 39)
    )
    assert clean["hr@10"].high == pytest.approx(1 - 0.025 ** (1 / 40))
    alone = loaded.cell("zero_shot", BRA, "rest").estimates[EXPOSURE]
    assert alone == (1, pytest.approx(0.025), 1)
    assert attacked[DIFFERENCE].mean == 1 and 0.8 < attacked[DIFFERENCE].low < 0.95
    assert tables.ratio(loaded.cell("zero_shot", CLEAN, "target")).mean == tables.MISSING


def test_popularity_is_a_line_of_every_table_and_a_model_must_beat_it(tmp_path):
    run = Writer(tmp_path, {"usages": ["zero_shot", "fine_tune"]}, in_group=np.arange(200) < 50)
    run.users()
    rng = np.random.default_rng(0)
    targets = rng.integers(1, 400, (200, 2))

    def truth(hits):
        return np.where(np.arange(200) < hits, 2, FAR)

    run.popularity(truth(40), np.full((200, 2), FAR))
    for usage, clean, attacked in (("zero_shot", 39, 42), ("fine_tune", 120, 120)):
        run.cell(CLEAN, truth(clean), targets, usage)
        run.cell(BRA, truth(attacked), targets, usage)
    loaded = run.load()
    for lines in tables.main_tables(loaded).values():
        assert [line.name for line in lines] == ["popularity", "clean", "bra group 0.5"]
        assert lines[0].values["accuracy"][0].mean == "0.200" and [line.starts for line in lines] == [True, False, False]
    assert [(each.usage, each.model) for each in doubts(loaded)] == [("zero_shot", CLEAN), ("zero_shot", BRA)]
    (told,) = in_sentences(doubts(loaded))
    assert "popularity: such a model shows nothing of an attack. clean, zero-shot: 0.123 against 0.126 (difference " in told
    assert "; bra group 0.5, zero-shot: 0.132 against 0.126 (difference +0.006, " in told
    assert [line.doubts for line in tables.main_tables(loaded)["zero-shot"]] == ["", *["not above popularity"] * 2]
    text, table = write_report(tmp_path, run.results).read_text(), summary_table(tmp_path, run.results)
    assert told in text and "clean (not above popularity)" in text and f"(!) {told}" in table
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:8]] == ["popularity"] * 3 + ["clean (!)"] * 3
    Page((tmp_path / "report.html").read_text())


def test_a_model_whose_best_epoch_is_among_the_first(tmp_path):
    run = Writer(tmp_path, segments=("all",), config={"seeds": [0, 1, 2]})
    records = []
    for seed, scores in ((0, [0.1, 0.3, 0.3]), (1, [0.1, 0.2, 0.3]), (2, [0.1])):
        run.users(seed)
        run.cell(CLEAN, np.ones(6), np.full((6, 1), 1), seed=seed)
        for epoch, score in enumerate(scores, 1):
            record = {"run": f"seed-{seed}/clean", "stage": "pretrain", "epoch": epoch, "step": 4 * epoch}
            records.append(record | {"validation_ndcg@10": score})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (told,) = in_sentences(doubts(run.load()))
    assert told.startswith("Best pre-training epoch among the first: ")
    assert told.endswith(" clean 2 of 3 (seed 0), 1 of 1 (seed 2).")
    assert f"(!) {told}" in summary_table(tmp_path, run.results)


def test_a_catalogue_that_allows_no_rank_of_50(tmp_path):
    run = Writer(tmp_path)
    run.cutoffs = (5, 10, 20)
    run.users()
    run.cell(CLEAN, np.ones(6), np.full((6, 2), 30))
    run.cell(BRA, np.ones(6), [[20, 30]] * 3 + [[30, 30]] * 3)
    assert run.load().cell("zero_shot", BRA, "target").estimates[EXPOSURE].mean == 0.5
    text = write_report(tmp_path, run.results).read_text()
    assert "exposure HR@20 " in text and "HR@50 |" not in text and "difference@20" in text
    assert "Exposure is reported at K = 20: for the users with the longest histories no more than 50 items compete" in text
    assert "among the first 20 against" in text
    Page((tmp_path / "report.html").read_text())
    for row in run.results["rows"]:
        del row["exposure_hr@20"]
    assert cutoffs_of(run.results["rows"]).shown == (5, 10)
    del run.results["rows"][0]["exposure_hr@10"]
    with pytest.raises(UserError, match="no HR@10"):
        run.load()


def test_targets_are_named(small):
    items = [{"item": f"{n}|", "title": "<i>A</i> *b*", "interactions": 5 + n} for n in range(25)]
    small.results["targets"] = [
        {"scope": "group", "draw": 0, "seed": 0, "items": items[:2]},
        {"scope": "group", "draw": 3, "seed": 1, "items": items},
    ]
    text, html = write_report(small.folder, small.results).read_text(), (small.folder / "report.html").read_text()
    assert "- group attack, seed 0: `--targets=ids:0|,1|`\n" in text
    assert "- group attack, seed 1, draw 3: `--targets=" in text and "  - and 5 more, in results.json" in text
    assert r"  - 1\|: \<i\>A\</i\> \*b\* (6)" in text
    page = Page(html)
    assert "<i>A</i> *b*" in page.text and page.text.count("<i>A</i> *b*") == 27 + 2  # by item too
    assert "--targets=ids:0|,1|" in page.text


def test_two_models_that_agree_on_all_users_are_not_known_to_be_equal(tmp_path):
    run = Writer(tmp_path, in_group=np.zeros(100, bool), segments=("all",))
    run.users()
    many(run, 30, 30, clean_right=50, right=49)
    estimates = run.load().cell("zero_shot", BRA, "all").estimates
    other = 1 - 0.025 ** (1 / 100)  # share of users that could rise, or fall, without being seen
    assert estimates[DIFFERENCE] == (0, pytest.approx(-other), pytest.approx(other))
    assert estimates[RATIO] == (1, pytest.approx(1 - other / 0.3), pytest.approx(1 + other / 0.3))
    assert estimates[LOST].mean == pytest.approx(1 / 50) and estimates[LOST].low < 0 and 0.1 < estimates[LOST].high < 0.12


def test_numbers_of_a_column_may_be_whole_and_not(tmp_path):
    row = dict.fromkeys(attack_parameters()) | {"item": "a", "pairs": 3}
    write_by_item(SimpleNamespace(folder=tmp_path), [row | {"demote_rate": 1}, row | {"demote_rate": 0.5}])
    found = pl.read_csv(tmp_path / "exposure_by_item.csv")
    assert found["demote_rate"].to_list() == [1.0, 0.5] and found.columns == ["demote_rate", "item", "pairs"]
