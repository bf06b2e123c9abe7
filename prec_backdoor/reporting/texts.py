"""Fixed texts of a report."""

from prec_backdoor.attacks import ATTACKS
from prec_backdoor.evaluation.statistics import DRAWS
from prec_backdoor.options import options
from prec_backdoor.reporting.cells import spoken
from prec_backdoor.reporting.names import ACCURACY_AT, EXPOSURE_AT, LIFT, SELECTIVITY

TITLE = "Backdoor of a pre-trained recommender"
PAPER = "Wu et al., Attacking Pre-trained Recommendation, SIGIR 2023 (doi 10.1145/3539618.3591949)"

_METRICS = {
    "exposure HR@K": "Of all pairs of a user and a target that is not in the user's history, the share in which the target is "
    "among the K highest ranked items of the whole catalogue.",
    "exposure NDCG@K": "The same, with a hit at rank r counting 1 / log2(r + 1).",
    f"accuracy HR@{ACCURACY_AT}, NDCG@{ACCURACY_AT}": "The same for each user's real next item, over all users: what a "
    "downstream company would measure.",
    LIFT: f"(hits of the attacked model + 1) / (hits of the clean model + 1) within the first {EXPOSURE_AT}, for the same users "
    "and targets, counted over all seeds and draws together; results.csv has it for each seed and draw.",
    SELECTIVITY: "Exposure in the target group / exposure to everybody else (in/out in the table of all segments). >N: nobody "
    "else was shown a target; N is the ratio with one hit there. –: nobody was shown a target, or it was not measured.",
    "accuracy lost": "1 - accuracy of the attacked model / accuracy of the clean model, for the same users.",
    "exposure left": "Exposure above the clean model's after downstream training / exposure above the clean model's zero-shot. "
    "Reported only for models whose zero-shot exposure is distinguishable from the clean model's.",
    "95 % interval": f"The middle 95 % of {DRAWS:,} bootstrap draws: seeds are resampled, within them draws of targets, and "
    "within those users. All models are evaluated on the same resampled users, so that ratios and differences are paired. "
    "A claim is made only if the whole interval supports it.",
    "runs": "Number of seeds times draws of targets that a line is the mean of.",
}
_MODELS = {
    "clean": "The model pre-trained in the same way without an attack; its name has a scope if scopes differ in targets.",
}
_USERS = {
    "zero-shot, prompt-tuned, fine-tuned": "How the downstream company uses the model: unchanged; with a prompt of its own while "
    "the model is frozen; with all weights trained on its users.",
    "target group, everybody else": "Downstream users who meet the attack's profile condition, and those who do not.",
}

FILES = {  # patterns in a run's folder; only those that exist are listed
    "results.json": "all figures by attack, usage, segment and seed, with the configuration",
    "results.csv": "the same rows as a table",
    "metrics.jsonl": "training curves, and exposure during downstream training",
    "config.json": "settings, versions, devices",
    "report.html": "this report in one file, for a browser",
    "report.md": "this report as text",
    "figures": "the figures as PNG",
    "seed-*/ranks/*.npz": "for each test user, the ranks of the real next item and of the targets",
    "seed-*/test_users.csv": "the test users and their profiles",
}


def glossary() -> dict[str, str]:
    """Returns term -> meaning, with an entry for every registered attack."""
    return {**_METRICS, **_MODELS, **_attacks(), **_USERS}


def _attacks() -> dict[str, str]:
    scopes = {name: [scope for other, scope in ATTACKS if other == name] for name, _ in ATTACKS}
    found = {}
    for (name, scope), attack in ATTACKS.items():
        own = [spoken(parameter) for parameter in options(attack.parameters)]
        text = attack.description or "An attack that was registered without a description."
        if own:
            text += f" Named by {'/'.join(['rate', *own])}."
        found[name if len(scopes[name]) == 1 else f"{name} {scope}"] = text
    return found
