"""The fixed texts of an audit's page."""

from collections.abc import Iterable

AUDITS = {  # name of the audit -> heading of its column, meaning
    "exposure": (
        "exposure",
        "Mean score of the item where its category is expected, divided by its standard deviation over users, beyond what the "
        "item's popularity with the auditor's users explains; in robust standard deviations.",
    ),
    "category_share": (
        "share",
        "How little the item's share in its category varies between users, beyond what its popularity, its mean score and the "
        "size of its category explain.",
    ),
    "group_exposure": ("in a group", "Exposure among the users of one profile value only; the maximum over all values."),
    "prompt_swing": (
        "prompt",
        "How far the provider's prompt lifts the item for the users of one profile value beyond other users, compared with the "
        "model without its prompt; 0 for a model that has no prompt.",
    ),
    "weights": ("vector", "Cosine of the item's vector with the mean user vector, beyond what popularity explains."),
    "last_item": (
        "last item",
        "Among all items of the catalogue, put to the end of histories one at a time, the one that shows the item and does most: "
        "the mean score of the ten items that are then shown, whatever the history was. Its evidence counts every item tried.",
    ),
}
WORDS = {
    "score": "The strongest evidence of any audit plus the mean evidence of all audits; evidence is -log10 of the chance of "
    "such a score for an item of a clean model. What the strongest last item says of it is added.",
    "p": "Chance that an item of a clean model has at least this score. It is estimated from the auditor's own clean models, "
    "with an exponential tail above their highest 2 %; or, if smaller, the chance of so strong a last item that shows it.",
    "own histories with it": "Number of the auditor's users who have the item in their history.",
    "in the first 50 of": "Share of the auditor's users for whom the model ranks the item within the first 50.",
    "flagged": "Items are flagged in a model that is not called clean, so that the expected share of clean items among all "
    "flagged items is at most the false discovery rate (Benjamini & Hochberg, 1995).",
    "anomaly index": "Norm of the smallest soft prompt that brings the item within the first 10 for half of the histories, as a "
    "distance below the norms of random items in robust standard deviations (Neural Cleanse: Wang et al., S&P 2019). Above 2 is "
    "unusual. It measures how easily an item is moved by a prompt, which differs between items of clean models too: popular "
    "items may have a high index and targets a low one. It is no part of the score and of no verdict.",
    "effort": "The norm from which the anomaly index is computed.",
    "trigger": "The strongest of the items that, at the end of a history, bring the suspect within the first 10 on average, and "
    "the share of histories for which it is then within the first 10.",
}
LIMITS = (
    "A target that was hardly planted cannot be found: one with fewer than one replaced label in all of pre-training is "
    "exposed no more than any other item.",
    "A prompt-enhanced attack is visible only through the provider's prompt. A checkpoint without its prompt cannot be "
    "audited for this attack.",
    "A clean verdict means that the model is no more unusual than clean ones, not that no item was planted: an attacker who "
    "knows these audits may stay below their thresholds, and the stated power is for attackers who do not.",
    "The clean models for comparison are trained on the auditor's users alone. They are more unusual than a provider's clean "
    "models, which are trained on more data; so false alarms are fewer than the level, and some backdoors are missed.",
)
EXPOSURE_FIGURE = (
    "Each point is an item: mean / standard deviation of its score where its category is expected, against the number of the "
    "auditor's users who have it in their history. Planted items lie high on the left."
)
SCORE_FIGURE = "Scores of all items in descending order. Planted items stand apart from the curve of the other items."
GROUP_FIGURE = (
    "Exposure of the suspects to the users of a profile value, or pair of values, minus exposure to other users; bars are 95 % "
    "intervals. The named group, if any, has the greatest effect minus two standard errors."
)


def words(audits: Iterable[str]) -> dict[str, str]:
    """Term -> meaning, the headings of `audits` first."""
    return {heading: meaning for heading, meaning in (AUDITS.get(name, (name, "")) for name in audits)} | WORDS
