"""A run's results as cells: one model in one usage for one segment of users, with an interval for each figure."""

from pathlib import Path
from typing import NamedTuple

from prec_backdoor.attacks import attack_parameters
from prec_backdoor.evaluation.statistics import Estimate
from prec_backdoor.reporting.estimators import estimates, hits
from prec_backdoor.reporting.names import SEGMENTS, Cutoffs, cutoffs_of
from prec_backdoor.reporting.rank_files import PAIRS
from prec_backdoor.reporting.samples import UserSums, make_samples, replicate_of, user_sums

POPULARITY = "popularity"
CHECKPOINT = "checkpoint"  # a measured model beside a clean one, if nothing is known of an attack


class Model(NamedTuple):
    """How a recommender was attacked; `parameters` are the attack's own, (name, value) each."""

    attack: str
    scope: str
    rate: float
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def measured_with(self) -> tuple[tuple[str, float], ...]:
        """Those of the parameters that the clean model is measured with, too."""
        known = attack_parameters()
        return tuple((name, value) for name, value in self.parameters if name in known and known[name][1].measured)

    @property
    def kind(self) -> str:
        """Attack and scope."""
        return f"{self.attack} {self.scope}"

    @property
    def name(self) -> str:
        """The kind with the rates; an attack with parameters is named without its scope."""
        if self.attack in ("clean", POPULARITY):
            return self.kind + self.parameter_text
        if self.attack == CHECKPOINT:
            return self.attack
        return f"{self.attack if self.parameters else self.kind} {self.rates}"

    @property
    def rates(self) -> str:
        """Rate and parameters, as 0.35/0.1."""
        return "/".join(f"{value:g}" for value in (self.rate, *(value for _, value in self.parameters)))

    @property
    def rate_names(self) -> str:
        """What `rates` are, as rate/demote rate."""
        return "/".join(["rate", *(spoken(name) for name, _ in self.parameters)])

    @property
    def parameter_text(self) -> str:
        """The parameters by name, as ", demote rate 0.1"; empty for an attack without any."""
        return "".join(f", {spoken(name)} {value:g}" for name, value in self.parameters)


class Cell(NamedTuple):
    """One line of a table.

    Attributes:
      rows: rows of results.json, one for each replicate.
      estimates: of EXPOSURE, all exposures and ACCURACIES; DIFFERENCE, RATIO and LOST if the clean model was measured;
        SELECTIVITY if there are users outside the group; LEFT if the zero-shot usage was measured and its exposure is above the
        clean model's; ABOVE_POPULARITY if ranking by popularity was measured.
      hits: targets within the last cut-off, over all replicates; `clean_hits`, `rest_hits`: those of the clean model on the same
        pairs, and of the same model outside the group; None if not measured.
    """

    usage: str | None
    model: Model
    users: str
    rows: list[dict]
    estimates: dict[str, Estimate]
    pairs: int
    hits: int
    clean_hits: int | None
    rest_hits: int | None


class Run(NamedTuple):
    """A finished run: its folder, the content of results.json, and the cells by usage, clean models before attacked ones.

    Attributes:
      baselines: cells of ranking by popularity, which have no usage; none in runs that did not measure it.
      cutoffs: the cut-offs of exposure.
    """

    folder: Path
    results: dict
    cells: list[Cell]
    baselines: list[Cell]
    cutoffs: Cutoffs

    @property
    def usages(self) -> list[str]:
        return list(dict.fromkeys(cell.usage for cell in self.cells))

    @property
    def plainest_usage(self) -> str:
        """The usage of figures that show one: zero-shot if it was measured."""
        return "zero_shot" if "zero_shot" in self.usages else self.usages[0]

    @property
    def attacked(self) -> list[Model]:
        return list(dict.fromkeys(cell.model for cell in self.cells if cell.model.attack != "clean"))

    @property
    def representatives(self) -> dict[str, Model]:
        """Kind of attack -> its model with the highest rate (and parameters)."""
        return {model.kind: model for model in self.attacked}

    @property
    def unknown(self) -> bool:
        """Whether a checkpoint was measured on a company's own data: nobody says whether it was attacked."""
        return self.results.get("checkpoints", {}).get("own_data") is True and not self.attacked

    def cell(self, usage: str | None, model: Model, users: str) -> Cell | None:
        return next((cell for cell in (*self.cells, *self.baselines) if cell[:3] == (usage, model, users)), None)

    def intended(self, model: Model) -> str:
        """The segment that the targets are meant for: the group if the scope is one, else all users."""
        has_group = any(cell.users == "target" for cell in (*self.cells, *self.baselines) if cell.model == model)
        return "target" if model.scope == "group" and has_group else "all"

    def clean_of(self, model: Model) -> Model:
        """The clean model, measured on the targets of `model`."""
        return Model("clean", model.scope, 0.0, model.measured_with)

    def name(self, model: Model) -> str:
        """A model's name in this run; that of a clean model or a baseline has a scope only if the run has several."""
        alone = len({(cell.model.scope, cell.model.measured_with) for cell in self.cells}) == 1
        name = model.attack if model.attack in ("clean", POPULARITY) and alone else model.name
        name = CHECKPOINT if self.unknown and model.attack == "clean" else name
        repairs = {row["repair"] for cell in self.cells if cell.model == model for row in cell.rows if row.get("repair")}
        return f"{name}, repaired ({', '.join(sorted(repairs))})" if repairs else name


def load_run(folder: Path, results: dict) -> Run:
    """Reads the ranks of a run and computes estimates with bootstrap intervals.

    Users are resampled within each segment and seed, the same ones for all models, so that differences and ratios of models are
    paired; draws of targets are resampled within seeds, and seeds too.

    Raises:
      UserError: the ranks of a row are missing.
    """
    cutoffs, every = cutoffs_of(results["rows"]), [*results["rows"], *results.get("baselines", [])]
    groups: dict[tuple, list[dict]] = {}
    for row in every:
        groups.setdefault(_cell_key(row), []).append(row)
    usages, scopes, attacks = (list(dict.fromkeys(row[key] for row in results["rows"])) for key in ("usage", "scope", "attack"))

    def order(key):
        usage, model, users = key
        kind = (scopes.index(model.scope), model.attack != "clean", attacks.index(model.attack))
        return usages.index(usage), *kind, model.rate, model.parameters, list(SEGMENTS).index(users)

    sums = user_sums(folder, every, cutoffs, _cell_key, _clean_key)
    baselines = [_cell(key, rows, sums, cutoffs) for key, rows in groups.items() if key[0] is None]
    measured = sorted((key for key in groups if key[0] is not None), key=order)
    return Run(folder, results, [_cell(key, groups[key], sums, cutoffs) for key in measured], baselines, cutoffs)


def spoken(name: str) -> str:
    """Returns a parameter's name as prose has it."""
    return name.replace("_", " ")


def _cell_key(row: dict) -> tuple[str | None, Model, str]:
    if "baseline" in row:
        return None, Model(row["baseline"], row["scope"], 0.0), row["users"]
    own = tuple((name, row[name]) for name in attack_parameters() if row.get(name) is not None)
    return row["usage"], Model(row["attack"], row["scope"], row["rate"], own), row["users"]


def _clean_key(key: tuple[str | None, Model, str]) -> tuple[str | None, Model, str]:
    usage, model, users = key
    return usage, Model("clean", model.scope, 0.0, model.measured_with), users


def _cell(key: tuple, rows: list[dict], sums: dict[tuple, UserSums], cutoffs: Cutoffs) -> Cell:
    usage, model, users = key
    clean = _clean_key(key)[1]
    compared = model != clean and usage is not None
    later = compared and usage != "zero_shot"
    samples = make_samples(
        sums,
        cutoffs,
        key,
        [replicate_of(row) for row in rows],
        clean=(usage, clean, users) if compared else None,
        rest=(usage, model, "rest") if users == "target" else None,
        before=("zero_shot", model, users) if later else None,
        before_clean=("zero_shot", clean, users) if later else None,
        popularity=(None, Model(POPULARITY, model.scope, 0.0), users) if usage is not None else None,
    )
    measured = samples.measured
    counted = [hits(sums) for sums in (measured.own, measured.clean, measured.rest)]
    return Cell(usage, model, users, rows, estimates(samples, cutoffs), int(measured.own[PAIRS].sum()), *counted)
