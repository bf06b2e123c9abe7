"""The contest: every attacker's model is audited and repaired, clean models are audited too; what came out, as rows.

Folders under seed-S are those of `launch.pretrain` and the others, so that each model can be looked at by hand. A cell that is
finished is read from its JSON; the same call continues a contest.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from prec_backdoor.audit.audit import AuditConfig, AuditResult, Clean, audit_model, clean_models
from prec_backdoor.audit.auditor_data import auditor_data_of
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.evaluation import hit_rate, unseen
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.experiment.measure import TestRanks, measure, segments
from prec_backdoor.experiment.setup import SeedSetup, make_setup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.leaderboard.attackers import ATTACKERS, Attacker
from prec_backdoor.leaderboard.metrics import (
    accuracy_lost,
    defence_effectiveness,
    detection_auc,
    exposure_removed,
    precision_at,
)
from prec_backdoor.models import ModelConfig
from prec_backdoor.repairs import REPAIRS, SUSPECT
from prec_backdoor.storage import workdir as work
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions, StageRun

ACCURACY_AT, EXPOSURE_AT, PRECISION_AT = 10, 50, 10
UNUSUAL = 2.0  # anomaly index of trigger inversion from which an item counts as found by it


@dataclasses.dataclass(frozen=True)
class ContestConfig:
    """Names and meanings are those of the flags of launch.audit_benchmark."""

    attackers: tuple[str, ...] = tuple(ATTACKERS)
    repairs: tuple[str, ...] = tuple(REPAIRS)
    seeds: tuple[int, ...] = (0, 1, 2)
    draws: int = 2
    adaptive_draws: int = 1
    clean_models: int = 10
    p_value: float = SUSPECT

    def __post_init__(self):
        for name, auditor_data in (("attackers", ATTACKERS), ("repairs", REPAIRS)):
            unknown = [value for value in getattr(self, name) if value not in auditor_data]
            if unknown:
                raise UserError(f"--{name}: '{unknown[0]}' is none of {', '.join(auditor_data)}")


def run_contest(
    interactions: Interactions,
    base: ExperimentConfig,
    contest: ContestConfig,
    audit: AuditConfig,
    folder: Path,
    say: Callable[[str], None] = print,
) -> dict:
    """Runs what is not yet there and returns the rows: {"detection": [...], "repairs": [...]}.

    Args:
      base: a clean configuration with the target group; attackers change its scenario.
    """
    rows = {"detection": [], "repairs": []}
    for seed in dict.fromkeys([*contest.seeds, *range(contest.clean_models)]):
        ring = _Ring(make_setup(interactions, base, seed), contest, audit, folder, say)
        rows["detection"] += list(ring.clean_rows(seed in contest.seeds))
        for name in contest.attackers if seed in contest.seeds else ():
            for draw in range(contest.adaptive_draws if ATTACKERS[name].adaptive else contest.draws):
                ring.attack(name, draw, rows)
            # What suppresses one number of suspects is a program of its own, and a process can map so many into its memory.
            jax.clear_caches()
    return rows


@dataclasses.dataclass(eq=False)
class _Ring:
    """One seed's contest."""

    setup: SeedSetup
    contest: ContestConfig
    audit: AuditConfig
    root: Path
    say: Callable[[str], None]

    def make(self, run: StageRun, place: str, rate: float = 0.0) -> StartPoint:
        """The result of a run, kept under seed-S/`place`."""
        return StartPoint.after(run_stage(run._replace(options=self._options(place))), rate)

    def _options(self, place: str) -> RunOptions:
        name = f"seed-{self.setup.seed}/{place}"
        return RunOptions(folder=self.root / name, log=work.metrics_log(self.root, name), title=name)

    @functools.cached_property
    def auditor_data(self):
        return auditor_data_of(self.setup, self.audit.histories)

    @functools.cached_property
    def clean(self) -> StartPoint:
        return self.make(stages.pretrain(self.setup, 0.0), "clean/pretrain")

    @functools.cached_property
    def prompted(self) -> StartPoint:
        return self.make(stages.optimize_trigger(self.setup, self.clean), "clean/optimize_trigger")

    @functools.cached_property
    def tuned(self) -> StartPoint:
        """The clean model after the fine-tuning that repairs end in."""
        return self.make(stages.finetune(self.setup, self.clean), "clean/finetune")

    @functools.cached_property
    def plain_calibration(self) -> list[Clean]:
        return self._calibrate("calibration/plain", self.setup.model)

    @functools.cached_property
    def prompted_calibration(self) -> list[Clean]:
        return self._calibrate("calibration/prompted", self.setup.prompted)

    def _calibrate(self, place: str, model: ModelConfig) -> list[Clean]:
        return clean_models(self.auditor_data, model, self.setup.config.pretrain, self.audit, self._options(place))

    def find(self, source: StartPoint) -> AuditResult:
        clean = self.prompted_calibration if "prompt" in source.params else self.plain_calibration
        return audit_model(source.params, self.setup.model_of(source.params), self.auditor_data, clean, self.audit)

    def cell(self, place: str, compute: Callable[[], dict]) -> dict:
        """What `compute` gives, kept in seed-S/`place`.json."""
        path = self.root / f"seed-{self.setup.seed}" / f"{place}.json"
        if not path.exists():
            content = compute()
            path.parent.mkdir(parents=True, exist_ok=True)
            work.write_json(path, content)
        return json.loads(path.read_text())

    def clean_rows(self, with_prompt: bool) -> Iterator[dict]:
        """The audit of the clean model, and of the same with a clean prompt."""
        pea = with_prompt and any(ATTACKERS[name].attack == "pea" for name in self.contest.attackers)
        for name, source in (("clean", lambda: self.clean), ("clean-prompted", lambda: self.prompted))[: 1 + pea]:

            def look(name=name, source=source):
                finding = self.find(source())
                row = {"attacker": name, "adaptive": False, "seed": self.setup.seed, "draw": 0}
                return row | _verdict(finding, np.zeros(len(finding.score), bool))

            row = self.cell(f"clean/{name}", look)
            self.say(f"seed {self.setup.seed}  {name:<20} {row['verdict']}")
            yield row

    def attack(self, name: str, draw: int, rows: dict) -> None:
        """Adds the rows of one attacker's model."""
        attacker, place = ATTACKERS[name], f"{name}-draw-{draw}"
        setup = self.setup.with_config(_config(self.setup.config, attacker, draw))
        rate = setup.config.rate[0]

        @functools.cache
        def source() -> StartPoint:
            if setup.config.scenario.method().prompted:
                stage, given = stages.implant, self.prompted._replace(rate=rate)
            else:
                stage, given = stages.pretrain, rate
            return self.make(stage(setup, given), f"{place}/{stage.__name__}", rate)

        def look() -> dict:
            finding, targets = self.find(source()), np.zeros(setup.interactions.num_items, bool)
            targets[setup.targets - 1] = True
            attacked, clean = (measure(setup, each.params) for each in (source(), self.clean))
            planted = targets.copy()
            planted[setup.targets - 1] = replaced_labels(setup, rate) >= 1
            return {
                "attacker": name,
                "adaptive": attacker.adaptive,
                "seed": setup.seed,
                "draw": draw,
                **_verdict(finding, targets),
                "right_group": finding.named.group == setup.config.scenario.group if attacker.scope == "group" else None,
                "auc": detection_auc(finding.score, targets),
                "auc_planted": detection_auc(finding.score[planted | ~targets], planted[planted | ~targets]),
                "targets": int(targets.sum()),
                "planted": int(planted.sum()),
                f"precision@{PRECISION_AT}": precision_at(finding.score, targets, min(PRECISION_AT, int(targets.sum()))),
                **{f"auc_{audit}": detection_auc(score, targets) for audit, score in finding.scores.items()},
                **_inversion(finding, targets),
                f"exposure_hr@{EXPOSURE_AT}": _exposure(setup, attacked),
                f"clean_exposure_hr@{EXPOSURE_AT}": _exposure(setup, clean),
                f"hr@{ACCURACY_AT}": hit_rate(attacked.truth, ACCURACY_AT),
                f"clean_hr@{ACCURACY_AT}": hit_rate(clean.truth, ACCURACY_AT),
                "suspects": (1 + np.flatnonzero(finding.p_value <= self.contest.p_value)).tolist(),
            }

        row = self.cell(f"{place}/detection", look)
        suspects = np.array(row.pop("suspects"), np.int32)
        rows["detection"].append(row)
        found = f"auc {row['auc']:.3f}  {row['verdict']:<10}  {row['group'] or ''}"
        self.say(f"seed {setup.seed}  {name:<20} draw {draw}  {found}")
        for repair in self.contest.repairs if len(suspects) else ():

            def mend(repair=repair) -> dict:
                options = self._options(f"{place}/{repair}")
                result = self.make(REPAIRS[repair](setup, source(), suspects, options), f"{place}/{repair}")
                after, clean = (measure(setup, params) for params in (result.params, self.tuned.params))
                before, exposed = row[f"exposure_hr@{EXPOSURE_AT}"], _exposure(setup, after)
                removed = exposure_removed(before, exposed)
                lost = accuracy_lost(*(hit_rate(each.truth, ACCURACY_AT) for each in (clean, after)))
                return {
                    **{key: row[key] for key in ("attacker", "adaptive", "seed", "draw", "verdict")},
                    "repair": repair,
                    "suspects": len(suspects),
                    "suspected_targets": int(np.isin(setup.targets, suspects).sum()),
                    "targets": len(setup.targets),
                    f"exposure_hr@{EXPOSURE_AT}_before": before,
                    f"exposure_hr@{EXPOSURE_AT}_after": exposed,
                    f"clean_exposure_hr@{EXPOSURE_AT}": _exposure(setup, clean),
                    f"hr@{ACCURACY_AT}": hit_rate(after.truth, ACCURACY_AT),
                    f"clean_hr@{ACCURACY_AT}": hit_rate(clean.truth, ACCURACY_AT),
                    "exposure_removed": removed,
                    "accuracy_lost": lost,
                    "der": defence_effectiveness(removed, lost),
                }

            rows["repairs"].append(self.cell(f"{place}/{repair}/repaired", mend))


def _config(base: ExperimentConfig, attacker: Attacker, draw: int) -> ExperimentConfig:
    changes = {"attack": attacker.attack, "scope": attacker.scope, "targets": attacker.targets, "draw": draw}
    scenario = dataclasses.replace(base.scenario, **changes)
    rate = scenario.method().default_rate if attacker.rate is None else attacker.rate
    return dataclasses.replace(base, scenario=scenario, rate=(rate,))


def _verdict(finding: AuditResult, targets: np.ndarray) -> dict:
    return {
        "verdict": "suspicious" if finding.suspicious else "clean",
        "group": finding.named.group,
        "group_p_value": finding.named.p_value,
        "items": len(targets),
        "flagged": int(finding.flagged.sum()),
        "flagged_targets": int(finding.flagged[targets].sum()),
        "least_p_value": float(finding.p_value.min()),
    }


def _inversion(finding: AuditResult, targets: np.ndarray) -> dict:
    """Of the suspects whose triggers were inverted: how many are targets, and how many of these and of the others stand out."""
    meant, unusual = targets[finding.suspects - 1], finding.inverted.index > UNUSUAL
    return {
        "inverted_targets": int(meant.sum()),
        "inverted_others": int((~meant).sum()),
        "unusual_targets": int(unusual[meant].sum()),
        "unusual_others": int(unusual[~meant].sum()),
    }


def replaced_labels(setup: SeedSetup, rate: float) -> np.ndarray:
    """[K] labels that are expected to become each target in an epoch, of all that the provider trains on."""
    rows, category = setup.pretrain.rows, setup.interactions.category
    if setup.config.scenario.scope == "group":
        owner = np.take_along_axis(rows.user, np.maximum(rows.segment - 1, 0), axis=1)
        open_to_attack = ((rows.label > 0) & setup.in_group[owner]).sum()
        return np.full(len(setup.targets), rate * open_to_attack / len(setup.targets))
    labels = np.bincount(category[rows.label[rows.label > 0]], minlength=len(setup.interactions.categories))
    of_target = category[setup.targets]
    return rate * labels[of_target] / np.bincount(of_target)[of_target]


def _exposure(setup: SeedSetup, measured: TestRanks) -> float:
    """exposure_hr@50 of the targets to those that they are for."""
    meant = segments(setup)["target" if setup.config.scenario.scope == "group" else "all"]
    pairs = unseen(setup.test.history, setup.targets)[meant]
    return hit_rate(measured.targets[meant][pairs], EXPOSURE_AT)
