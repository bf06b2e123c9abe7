"""The fixed words of an audit's report."""

from collections.abc import Iterable

AUDITS = {  # name of the audit -> heading of its column, what it says
    "exposure": (
        "exposure",
        "Score where the item's category is expected, divided by how much it varies over users, beyond what the item's "
        "popularity with the auditor's users explains; robust standard deviations.",
    ),
    "category_share": (
        "share",
        "How little the item's share in its category varies from user to user, beyond what its popularity, its mean score "
        "and the size of its category explain.",
    ),
    "group_exposure": ("in a group", "The same within the users of each profile value; the greatest counts."),
    "prompt_swing": (
        "prompt",
        "How far the provider's prompt lifts the item for the users of one profile value beyond the rest, compared with "
        "the model without it; 0 for a model that has none.",
    ),
    "weights": ("vector", "Cosine of the item's vector with the mean user vector, beyond what popularity explains."),
}
WORDS = {
    "score": "The strongest evidence of any audit plus the mean of all; evidence is -log10 of the chance of such a score "
    "with a clean model.",
    "p": "Chance that an item of a clean model has at least this score. From the auditor's own clean models, beyond their"
    " highest 2 % with an exponential tail.",
    "flagged": "Chosen so that of all flagged items the expected share of false ones is at most the false discovery rate "
    "(Benjamini & Hochberg, 1995).",
    "anomaly index": "Of the smallest soft prompt that brings the item within the first 10 for half of the histories: how"
    " far its norm is below that of random items, in robust deviations (Neural Cleanse: Wang et al., S&P 2019). Above 2 "
    "is unusual. Told beside the score, not part of it.",
    "trigger": "The real item that lifts the suspect most when put at the end of a history, and in what share of "
    "histories the suspect is then within the first 10.",
}
LIMITS = (
    "An item that was hardly planted hardly shows: a target with fewer than one replaced label in all of pre-training is no more "
    "exposed than any other, and is not found.",
    "A prompt-enhanced attack shows through the provider's prompt alone. A checkpoint that comes without it cannot be "
    "judged in that respect.",
    "A clean verdict says that nothing stands out, not that nothing was planted: an attacker who knows these audits may "
    "stay below.",
)
EXPOSURE_FIGURE = (
    "Each point is an item: how steadily it is shown where its category is expected, against how many of the auditor's "
    "users have had it. Planted items lie high at the left."
)
SCORE_FIGURE = "Scores of all items in falling order. Planted items stand apart from the curve of the others."
GROUP_FIGURE = (
    "How much more the suspects are shown to users of a profile value or pair of values than to everybody else; bars are "
    "95 % intervals. The one named, if any, has the greatest effect less its standard error."
)


def words(audits: Iterable[str]) -> dict[str, str]:
    """Term -> meaning, those of the `audits` first."""
    return {heading: meaning for heading, meaning in (AUDITS.get(name, (name, "")) for name in audits)} | WORDS


def verdict(content: dict) -> str:
    """One plain sentence or two."""
    flagged, total = content["flagged"], len(content["items"])
    if not flagged:
        return f"Clean: none of {total:,} items stands out from what clean models show."
    some = "1 item stands" if flagged == 1 else f"{flagged:,} items stand"
    group = f"they are shown most to {content['group']}" if content["group"] else "no group of users is meant more than others"
    if flagged == 1:
        group = group.replace("they are", "it is")
    return f"Suspicious: {some} out of {total:,}; {group}."
