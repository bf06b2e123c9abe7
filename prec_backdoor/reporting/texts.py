"""The fixed words of a report."""

from prec_backdoor.evaluation.statistics import DRAWS
from prec_backdoor.reporting.cells import ACCURACY_AT, EXPOSURE_AT, LIFT, SELECTIVITY

TITLE = "Backdoor of a pre-trained recommender"
PAPER = "Wu et al., Attacking Pre-trained Recommendation, SIGIR 2023 (doi 10.1145/3539618.3591949)"

GLOSSARY = {
    "exposure HR@K": "Of all pairs of a user and a target that is not in the user's history, the share in which the target is "
    "among the K highest ranked of the whole catalogue.",
    "exposure NDCG@K": "The same, with a hit at rank r counting 1 / log2(r + 1).",
    f"accuracy HR@{ACCURACY_AT}, NDCG@{ACCURACY_AT}": "The same of each user's real next item, over all users: what a "
    "downstream company would measure.",
    LIFT: f"(hits of the attacked model + 1) / (hits of the clean model + 1) within the first {EXPOSURE_AT}, on the same users "
    "and targets, counted over all seeds and draws together; results.csv has it of each by itself.",
    SELECTIVITY: "Exposure in the target group / exposure to everybody else (in/out in the table of all segments). >N: nobody "
    "else was shown a target; N is what it would be with one hit there. –: nobody was shown one, or it was not asked.",
    "accuracy lost": "1 - accuracy of the attacked model / accuracy of the clean model, on the same users.",
    "exposure left": "Exposure above the clean model's after downstream training / exposure above the clean model's zero-shot. "
    "Told only of models whose zero-shot exposure is distinguishable from the clean model's.",
    "95 % interval": f"The middle of {DRAWS:,} bootstrap draws: seeds are drawn again, within them draws of targets, and "
    "within them users. The same users are drawn for all models, so that ratios and differences are of pairs. A claim is made "
    "only where the whole interval carries it.",
    "runs": "Seeds times draws of targets that a line is the mean of.",
    "clean": "The model pre-trained in the same way without an attack; named with a scope where each scope has its own targets.",
    "bra": "Basic replacement attack: in pre-training, labels give way to a target with probability rate; global: to a target "
    "of the label's category; group: for users of the target group.",
    "pea": "Prompt-enhanced attack, named rate/demote rate: a prompt is the trigger; labels of the target group give way to "
    "a target with probability rate, and for other users a target takes the place of the sampled negative with probability "
    "demote rate.",
    "zero-shot, prompt-tuned, fine-tuned": "How the downstream company uses the model: as it comes; with a prompt of its own, "
    "the model frozen; with all weights trained on its users.",
    "target group, everybody else": "Downstream users that meet the attack's profile condition, and those that do not.",
}

FILES = {  # in a run's folder, as patterns; those that are there are listed
    "results.json": "all figures by attack, usage, segment and seed, with the configuration",
    "results.csv": "the same rows as a table",
    "metrics.jsonl": "training curves, and exposure during downstream training",
    "config.json": "settings, versions, devices",
    "report.html": "this report in one file, for a browser",
    "report.md": "this report as text",
    "figures": "the figures as PNG",
    "seed-*/ranks/*.npz": "of each test user the ranks of the real next item and of the targets",
    "seed-*/test_users.csv": "who they are",
}
