"""Fixed texts of a report."""

from prec_backdoor.attacks import ATTACKS
from prec_backdoor.evaluation.statistics import DRAWS, FEW
from prec_backdoor.options import options
from prec_backdoor.reporting.cells import spoken
from prec_backdoor.reporting.names import ACCURACY_AT, DIFFERENCE, RATIO, SELECTIVITY

TITLE = "Backdoor of a pre-trained recommender"
TITLE_WITHOUT = "Accuracy of a pre-trained recommender"  # of a run without an attack
PAPER = "Wu et al., Attacking Pre-trained Recommendation, SIGIR 2023 (doi 10.1145/3539618.3591949)"

_METRICS = {
    "exposure HR@K": "Of all pairs of a user and a target that is not in the user's history, the share in which the target is "
    "among the K highest ranked items of the whole catalogue.",
    "exposure NDCG@K": "The same, with a hit at rank r counting 1 / log2(r + 1).",
    "triggered exposure HR@K": "The same with the attack's trigger in place of the last items of the histories, for attacks that "
    "have one and their clean counterpart.",
    f"accuracy HR@{ACCURACY_AT}, NDCG@{ACCURACY_AT}": "The same for each user's real next item, over all users: what a "
    "downstream company would measure.",
    DIFFERENCE: "Exposure of the attacked model - exposure of the clean model, for the same users and targets.",
    RATIO: "Exposure of the attacked model / exposure of the clean model, for the same users and targets. "
    f">N: the clean model has fewer than {FEW} hits, and N is the lower end of the 95 % interval. –: too few hits to compare. "
    "lift@K in results.csv is another figure: (hits of the attacked model + 1) / (hits of the clean model + 1), which grows with "
    "the number of users if the clean model has few hits.",
    SELECTIVITY: "Exposure in the target group / exposure to everybody else (in/out in the table of all segments). "
    f">N: everybody else has fewer than {FEW} hits together, and N is the lower end of the 95 % interval.",
    "accuracy lost": "1 - accuracy of the attacked model / accuracy of the clean model, for the same users.",
    "exposure left": "Exposure above the clean model's after downstream training / exposure above the clean model's zero-shot. "
    "Reported only for models whose zero-shot exposure is distinguishable from the clean model's.",
    "95 % interval": f"The middle 95 % of {DRAWS:,} bootstrap draws: seeds are resampled, within them draws of targets, and "
    "within those users. All models are evaluated on the same resampled users, so that ratios and differences are paired. "
    f"With fewer than {FEW} hits, misses or users the interval is at least the exact binomial one of as many trials as there are "
    "users, since pairs of one user are not independent, and differences and ratios combine such intervals (MOVER, Zou & Donner "
    "2008). A claim is made only if the whole interval supports it.",
    "popularity": "Baseline: items ranked by their number of interactions in the pre-training data, on a company's own data in "
    "what its users have to train on, for the same test users and with their histories left out. A model that "
    "does not rank the real next item better has not learned.",
    "runs": "Number of seeds times draws of targets that a line is the mean of.",
}
_MODELS = {
    "clean": "The model pre-trained in the same way without an attack; its name has a scope if scopes differ in targets.",
    "attack~statistics": "The attack of a provider who evades these statistics of the audit: a penalty on what they measure of "
    "the targets, times evade strength.",
}
_USERS = {
    "zero-shot, prompt-tuned, fine-tuned": "How the downstream company uses the model: unchanged; with a prompt of its own while "
    "the model is frozen; with all weights trained on its users.",
    "target group, everybody else": "Downstream users who meet the attack's profile condition, and those who do not.",
}

FILES = {  # patterns in a run's folder; only those that exist are listed
    "results.json": "all figures by attack, usage, segment and seed, with the configuration and the targets",
    "results.csv": "the same rows as a table",
    "exposure_by_item.csv": "the exposure of each target by itself, a row for each row of results.csv and target",
    "metrics.jsonl": "training curves, and exposure during downstream training",
    "config.json": "settings, versions, devices",
    "report.html": "this report in one file, for a browser",
    "report.md": "this report as text",
    "figures": "the figures as PNG",
    "seed-*/ranks/*.npz": "for each test user, the ranks of the real next item and of the targets",
    "seed-*/test_users.csv": "the test users and their profiles",
}


def glossary(k: int) -> dict[str, str]:
    """Returns term -> meaning, with an entry for every registered attack; `k` is the cut-off by which models are compared."""
    metrics = {f"{term}@{k}" if term in (DIFFERENCE, RATIO, SELECTIVITY) else term: text for term, text in _METRICS.items()}
    return {**metrics, **_MODELS, **_attacks(), **_USERS}


def _attacks() -> dict[str, str]:
    scopes = {name: [scope for other, scope in ATTACKS if other == name] for name, _ in ATTACKS}
    found = {}
    for (name, scope), attack in ATTACKS.items():
        described = options(attack.parameters).items()
        own = [spoken(parameter) for parameter, (_, option) in described if not option.quiet]
        more = [spoken(parameter) for parameter, (_, option) in described if option.quiet]
        text = attack.description or "An attack that was registered without a description."
        if own:
            text += f" Named by {'/'.join(['rate', *own])}"
            text += f" and, unless they are at their defaults, {'/'.join(more)}." if more else "."
        found[name if len(scopes[name]) == 1 else f"{name} {scope}"] = text
    return found
