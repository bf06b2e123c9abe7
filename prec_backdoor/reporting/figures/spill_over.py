"""Exposure of the targets by profile attribute, inside and outside the target group."""

import re
from collections import Counter

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from prec_backdoor.data.groups import conditions
from prec_backdoor.evaluation.statistics import Estimate, binomial_interval, is_few
from prec_backdoor.reporting.cells import Model, Run
from prec_backdoor.reporting.figures import style
from prec_backdoor.reporting.names import USAGES
from prec_backdoor.reporting.rank_files import load_ranks
from prec_backdoor.storage import workdir as work

MIN_USERS = 5  # of a value to be shown: fewer could be identified
MAX_VALUES = 12


def spill_over(run: Run) -> Figure | None:
    """Returns a row per attribute and a column per kind of group attack; None without a group attack or profiles."""
    usage = run.plainest_usage
    models = [model for model in run.representatives.values() if run.intended(model) == "target"]
    everybody = [run.cell(usage, model, "all") for model in models]
    cells = [cell for cell in everybody if cell]
    if not cells:
        return None
    seeds = sorted({row["seed"] for cell in cells for row in cell.rows})
    users = {seed: work.load_test_users(run.folder, seed) for seed in seeds}
    attributes = [name for name in users[seeds[0]].columns if name not in ("user_id", "in_group")]
    values = {name: shown for name in attributes if len(shown := _values(users.values(), name)) > 1}
    if not values:
        return None
    heights = [len(shown) + 1.2 for shown in values.values()]
    figure, axes = style.panels(
        len(cells),
        len(values),
        width=4.6,
        height=0.3 * float(np.mean(heights)) + 0.35,
        sharex=True,
        sharey="row",
        gridspec_kw={"height_ratios": heights},
    )
    clean_cells = [run.cell(usage, run.clean_of(cell.model), "all") for cell in cells]
    for column, (cell, clean) in enumerate(zip(cells, clean_cells, strict=True)):
        shown, shown_clean = (each and _hits_and_pairs(run, each.rows) for each in (cell, clean))
        for row, (name, counts) in enumerate(values.items()):
            panel = axes[row, column]
            named = _named(run, name)
            members = _members_values(users.values(), name) if named else set()
            _bars(panel, cell.model, _by_value(users, name, counts, shown), counts, members)
            if shown_clean:
                levels = [each.mean for each in _by_value(users, name, counts, shown_clean)]
                places = np.arange(len(counts))
                panel.plot(levels, places, style.CLEAN_MARKER, color="white", mec="black", ms=4.5, label="clean model", zorder=3)
            if column == 0:
                panel.set_ylabel(style.plain(name))
                panel.set_ylim(len(counts) - 0.4, -0.6)
            if row == 0:
                panel.set_title(f"{run.name(cell.model)}, {USAGES.get(usage, usage)}")
        panel.set_xlabel(f"exposure HR@{run.cutoffs.last} of the targets")
    axes[0, 0].set_xlim(left=0)
    figure.align_ylabels()
    style.legend_below(figure)
    return figure


def _bars(panel, model: Model, found: list[Estimate], counts: dict[str, int], members: set[str]) -> None:
    means, lengths = np.array([each.mean for each in found]), style.errors(found)
    places = np.arange(len(counts))
    panel.grid(visible=False, axis="y")
    for is_member, label in ((True, f"{model.kind}: value of the target group"), (False, "other values")):
        chosen = np.array([(value in members) == is_member for value in counts])
        if not chosen.any():
            continue
        panel.barh(
            places[chosen],
            means[chosen],
            0.68,
            xerr=lengths[:, chosen],
            facecolor=style.colour(model.kind) if is_member else "#d9d9d9",
            edgecolor="#444444",
            linewidth=0.6,
            error_kw={"elinewidth": 1, "capsize": 2},
            label=label,
        )
    panel.set_yticks(places, [f"{'▸ ' if v in members else ''}{style.plain(v)} (n {n})" for v, n in counts.items()])


def _values(users, name: str) -> dict[str, int]:
    """Value -> number of users over all seeds, for the most frequent values, in natural order."""
    counts = Counter(value for table in users for value in table[name].fill_null("").to_list())
    common = [(value, count) for value, count in counts.most_common(MAX_VALUES) if count >= MIN_USERS]
    return dict(sorted(common, key=lambda each: _natural(each[0])))


def _natural(value: str) -> tuple:
    number = re.search(r"\d+", value)
    return (number is None, int(number[0]) if number else 0, value)


def _named(run: Run, attribute: str) -> bool:
    """Whether a condition of the group is on this attribute."""
    group = run.results["config"]["group"]
    return bool(group) and attribute in [name for name, _ in conditions(group)]


def _members_values(users, name: str) -> set[str]:
    return {value for table in users for value in table.filter(pl.col("in_group"))[name].fill_null("").to_list()}


def _hits_and_pairs(run: Run, rows: list[dict]) -> dict[int, np.ndarray]:
    """Seed -> [U, 2] hits and pairs of each user, over the draws of targets."""
    sums: dict[int, np.ndarray] = {}
    for row in rows:
        targets = load_ranks(run.folder, row)["targets"]
        with np.errstate(invalid="ignore"):
            found = np.stack([(targets <= run.cutoffs.last).sum(1), np.isfinite(targets).sum(1)], 1)
        sums[row["seed"]] = sums.get(row["seed"], 0) + found
    return sums


def _by_value(users: dict, name: str, counts: dict[str, int], sums: dict[int, np.ndarray]) -> list[Estimate]:
    """Exposure of each value, its interval from the variance over users, or the exact one if there is little to vary."""
    columns = np.concatenate([users[seed][name].fill_null("").to_numpy() for seed in sums])
    hits, pairs = np.concatenate(list(sums.values())).T
    found = []
    for value in counts:
        ours = columns == value
        number, total, people = hits[ours].sum(), max(pairs[ours].sum(), 1), (pairs[ours] > 0).sum()
        share = number / total
        half = 1.96 * np.sqrt(np.square(hits[ours] - share * pairs[ours]).sum()) / total
        estimate = Estimate(share, max(share - half, 0), share + half)
        few = is_few(number, total - number, people)
        found.append(estimate.cover(binomial_interval(share, people)) if few else estimate)
    return found
