"""The figures of a report. A new one is a file with a function (run) -> Figure or None, and a line in FIGURES."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from prec_backdoor.reporting.cells import Run
from prec_backdoor.reporting.figures.exposure_by_rate import exposure_by_rate
from prec_backdoor.reporting.figures.rank_distributions import rank_distributions
from prec_backdoor.reporting.figures.spill_over import spill_over
from prec_backdoor.reporting.figures.stealth_plane import stealth_plane
from prec_backdoor.reporting.figures.survival import survival


class Drawing(NamedTuple):
    """A figure, its title and what it shows; `draw` gives None where it makes no sense for the run.

    `tall`: it grows downwards, not to the right.
    """

    draw: Callable[[Run], Figure | None]
    title: str
    caption: str
    tall: bool = False


FIGURES = {
    "exposure_by_rate": Drawing(
        exposure_by_rate,
        "Exposure by rate",
        "How often a target is among the first 50 against the replacement rate; the clean model stands at rate 0. Solid: the "
        "users that the targets are meant for (the group, or everybody); open markers: everybody else, where there is one "
        "demote rate. Bars: 95 % intervals.",
    ),
    "stealth_plane": Drawing(
        stealth_plane,
        "Exposure against accuracy lost",
        "Each point is an attacked model, labelled with its rate: how often the users that the targets are meant for "
        "see one, against the HR@10 of the real next item that all users lose, relative to the clean model. High and near 0: a "
        "strong attack that hides. Lines join models of one demote rate. Bars: 95 % intervals, those of the loss paired by user.",
    ),
    "rank_distributions": Drawing(
        rank_distributions,
        "Ranks of the targets",
        "Share of the pairs of a user and a target in which the target is among the first k, for every k, of the models as "
        "they come. Of each attack the model of the highest rate, beside the clean model on the same targets.",
    ),
    "survival": Drawing(
        survival,
        "Survival of the backdoor downstream",
        "Exposure of the targets while the downstream company trains on clean data; what it keeps is the epoch of the best "
        "validation, not always the last. Bold: mean over seeds and draws, as far as all of them go; band: from the least to the "
        "greatest; thin: each of them. Of each attack the model of the highest rate.",
    ),
    "spill_over": Drawing(
        spill_over,
        "Spill-over by profile",
        "Exposure of the targets by value of each profile attribute. Coloured, with an arrow: values of the target "
        "group. n: test users over all seeds. Bars: 95 %, from the spread over users. Values of fewer than 5 users are "
        "not shown, and of attributes with many values the 12 most frequent.",
        tall=True,
    ),
}
