"""A contest on several backbones: one after another, each in a folder of its own."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.errors import UserError
from prec_backdoor.experiment.config import ExperimentConfig
from prec_backdoor.leaderboard.config import ContestConfig
from prec_backdoor.leaderboard.plan import ContestPlan
from prec_backdoor.leaderboard.run import plan_contest, run_contest
from prec_backdoor.models import BACKBONES, ModelConfig
from prec_backdoor.options import defaults
from prec_backdoor.repairs.registry import check_repair
from prec_backdoor.storage.workdir import as_path


def with_backbone(model: ModelConfig, name: str) -> ModelConfig:
    """Returns the model with another backbone; what that does not have, and its own parameters, are at their defaults.

    Raises:
      UserError: there is no such backbone.
    """
    if name not in BACKBONES:
        raise UserError(f"--backbones: must be some of {', '.join(BACKBONES)}, got {name!r:.40}")
    unused = {each: defaults(ModelConfig)[each] for each in getattr(BACKBONES[name], "unused", ())}
    return model if name == model.backbone else dataclasses.replace(model, backbone=name, parameters={}, **unused)


def contests(base: ExperimentConfig, contest: ContestConfig) -> dict[str, tuple[ExperimentConfig, ContestConfig]]:
    """Returns folder -> (configuration, contest) of each backbone; the folder of a single one is the contest's own.

    With several, a repair that does not apply to a backbone is left out there.
    """
    if len(contest.backbones) < 2:
        name = (*contest.backbones, base.model.backbone)[0]
        return {"": (dataclasses.replace(base, model=with_backbone(base.model, name)), contest)}
    found = {}
    for name in contest.backbones:
        model = with_backbone(base.model, name)
        repairs = tuple(repair for repair in contest.repairs if _applies(repair, model))
        found[name] = dataclasses.replace(base, model=model), dataclasses.replace(contest, repairs=repairs)
    return found


def run_contests(
    interactions: Interactions,
    base: ExperimentConfig,
    contest: ContestConfig,
    audit: AuditConfig,
    folder: str | Path,
    say: Callable[[str], None] = print,
) -> dict:
    """Runs `run_contest` for each backbone; returns the rows of all, which name their backbone if there are several."""
    rows = {"detection": [], "repairs": []}
    for name, (config, own) in contests(base, contest).items():
        if name:
            say(f"backbone {name}")
            left_out = [repair for repair in contest.repairs if repair not in own.repairs]
            say(f"left out: {', '.join(left_out)} (of other backbones)") if left_out else None
        found = run_contest(interactions, config, own, audit, as_path(folder) / name, say)
        for kind, each in found.items():
            rows[kind] += [{"backbone": name, **row, "page": f"{name}/{row['page']}"} if name else row for row in each]
    return rows


def plan_contests(
    interactions: Interactions, base: ExperimentConfig, contest: ContestConfig, audit: AuditConfig
) -> dict[str, ContestPlan]:
    """Returns folder -> plan of each backbone."""
    return {name: plan_contest(interactions, *each, audit) for name, each in contests(base, contest).items()}


def _applies(repair: str, model: ModelConfig) -> bool:
    try:
        check_repair(repair, model)
    except UserError:
        return False
    return True
