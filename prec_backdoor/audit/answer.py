"""The answer of an audit in words, from audit.json: the same on the page and on the terminal."""

from typing import NamedTuple

import numpy as np

from prec_backdoor.audit.config import SUSPECT
from prec_backdoor.audit.verdict import CANNOT_SAY, CLEAN, SUSPICIOUS
from prec_backdoor.reporting.formats import counted

GROUPS_NAMED = 4  # a longer set is counted
REPAIRED = 5  # most unusual items that are repaired where none has a p-value of at most SUSPECT


class Answer(NamedTuple):
    """The verdict in one sentence, what it rests on, and what the audit would have found."""

    verdict: str
    basis: str
    power: str

    @property
    def headline(self) -> str:
        """The verdict's first words."""
        return self.verdict.partition(":")[0]


def answer(content: dict) -> Answer:
    """The answer of a finished audit."""
    doubt = f" {content['unseen']}" if content.get("unseen") and content["verdict"] != CLEAN else ""
    return Answer(_verdict(content), _basis(content["model"]) + doubt, power(content))


def _verdict(content: dict) -> str:
    if content["verdict"] == CLEAN:
        blind = content["power"] is not None and not content["power"]["found"]
        says = (
            " That says little: the audit found none of the backdoors that the auditor planted on these users." if blind else ""
        )
        return f"Clean so far: as a whole, this checkpoint is no more unusual than models that nobody attacked.{says}"
    word, models = content["verdict"].capitalize(), content["model"]["clean_models"]
    flagged, total = content["flagged"], len(content["items"])
    clean = "the only clean model" if models == 1 else f"each of {models} clean models"
    if content["verdict"] == CANNOT_SAY:
        return f"{word}: this checkpoint is more unusual than {clean} for comparison, but so few cannot tell."
    unusual, trigger = "as a whole, this checkpoint is more unusual than models that nobody attacked", ""
    if content["last_items"][0]["p_value"] <= SUSPECT:
        trigger = " There is a trigger: an item that, at the end of a history, calls up the same items whatever was before."
    if not flagged:
        return f"{word}: {unusual}; no item stands out by itself.{trigger}"
    stand, who = ("stands", "itself") if flagged == 1 else ("stand", "themselves")
    return f"{word}: {unusual}; {counted(flagged, 'item')} of {total:,} {stand} out by {who}.{trigger}"


def _basis(model: dict) -> str:
    number, extreme, least = model["clean_models"], model["as_extreme"], model["least_p_value"]
    trained = f"The auditor trained {counted(number, 'clean model')} on your users; "
    found = f"{extreme or 'none'} of them {'is' if extreme <= 1 else 'are'} as unusual as this checkpoint. "
    if model["p_value"] <= model["level"]:
        chance = f"in at most {_of_100(model['level'])} of 100 cases"
        return f"{trained}{found}A clean one made as these are would be called suspicious {chance}."
    if extreme:
        limit = f"; it would be suspicious if at most {_of_100(model['level'])} of 100 were" if least <= model["level"] else ""
        return f"{trained}{found}So about {_of_100(model['p_value'])} of 100 clean checkpoints are{limit}."
    return f"{trained}{found}With so few, a clean one made as these are looks like that in up to {_of_100(least)} of 100 cases."


def power(content: dict) -> str:
    """What the audit would have found, in one or two sentences."""
    found, users = content["power"], content["users"]
    if found is None:
        return "Not measured: --power_models=12 plants twelve backdoors in models of the auditor's own, and audits them."
    model = content["model"]
    limited = found["found"] and model["least_p_value"] > model["level"]
    few = ' (called "cannot say", as so few clean models can say no more)' if limited else ""
    tried = (
        f"Judged by {counted(len(found['attacks']), 'backdoor')} that the auditor planted in its own models, of which it found "
        f"{found['found'] or 'none'}{few}."
    )
    if found["exposure"] is None:
        return f"Which backdoors it would have found in 95 of 100 cases cannot be said for your {counted(users, 'user')}. {tried}"
    low = found["interval"][0]
    return (
        f"With your {counted(users, 'user')}, a backdoor that puts its targets before {_user_in(found['exposure'])} of those it "
        "is aimed at, more than a clean model does, would have been found in 95 of 100 cases. This is the cautious end of what "
        f"the trials allow; the other is {_user_in(low)}. {tried}"
    )


def group(content: dict) -> str:
    """Whom the suspects are shown to; a single group is named only if the set has no other."""
    likely = content["groups_likely"]
    if not content["groups"]:
        return (
            "No group was looked for: users have no profile attribute that the checkpoint has, or every value has too few users."
        )
    if not content["groups_narrowed"]:
        return "Whom the suspects are shown to cannot be narrowed down: no group, or nearly every group, explains their exposure."
    if content["group"]:
        return f"The suspects are shown to {likely[0]} more than to other users; with 90 % confidence no other group explains it."
    if len(likely) == 1:
        return f"If a group is aimed at, it is {likely[0]} with 90 % confidence; that any is may be chance."
    named = ", ".join(likely[:GROUPS_NAMED]) + (f" and {len(likely) - GROUPS_NAMED} more" if len(likely) > GROUPS_NAMED else "")
    return f"If a group is aimed at, it is one of {len(likely)} with 90 % confidence: {named}. None of them can be singled out."


def variants(content: dict) -> list[tuple[str, str, float]]:
    """(the checkpoint's state, verdict, p-value), the checkpoint as it comes first."""
    rows = [("as it comes", content["verdict"], content["model"]["p_value"])]
    rows += [(f"weights in {name}", each["verdict"], each["p_value"]) for name, each in content.get("rounded", {}).items()]
    if "finetuned" in content:
        rows.append(("after your own fine-tuning", content["finetuned"]["verdict"], content["finetuned"]["p_value"]))
    return [(name, "clean so far" if word == CLEAN else word, p_value) for name, word, p_value in rows]


def worth(content: dict) -> list[str]:
    """Sentences about accuracy and skew, for the checkpoint beside what the company could have without it."""
    found = content.get("worth")
    if not found:
        return []
    gain, error = (100 * found["gain"][each] for each in ("mean", "error"))
    worth_it = "more" if gain > 2 * error else "fewer" if gain < -2 * error else "not distinguishably more"
    share, popularity, own = (f"{100 * found[name]:.1f} %" for name in ("hr@10", "popularity", "own_models"))
    lines = [
        f"The next item is within the checkpoint's first 10 for {share} of your {counted(found['users'], 'user')}; by "
        f"popularity it is for {popularity}, with a model of your data alone for {own}. The checkpoint serves {worth_it} users "
        f"than your own model: {gain:+.1f} points, standard error {error:.1f}."
    ]
    if found["claimed"]:
        claimed, measured = found["claimed"]["ndcg@10"], found["measured"]["ndcg@10"]
        lines.append(
            f"The provider's metadata claim an NDCG@10 of {claimed:.3f} on users of its own; on yours it is {measured:.3f}. Your "
            "histories may be shorter, so that a lower figure alone is no sign of an attack."
        )
    first, own = 100 * found["skew"]["checkpoint"], [f"{100 * each:.0f}" for each in sorted(found["skew"]["own_models"])]
    usual = f"models {own[0]} to {own[-1]}" if own[0] != own[-1] else f"model{'s' if len(own) > 1 else ''} {own[0]}"
    lines.append(
        f"The most shown hundredth of the catalogue takes {first:.0f} % of all places among the first 50; in your own {usual} %."
    )
    return lines


def moved(content: dict) -> str:
    """What moved between the two versions of a checkpoint."""
    found = content.get("baseline")
    if not found:
        return ""
    retrained = found["lists_changed_by_retraining"]
    low, high = (f"{100 * each(retrained, default=0):.0f}" for each in (min, max))
    usual = f"; retraining alone changes {low if low == high else f'{low} to {high}'} %" if retrained else ""
    beyond = f" {counted(found['beyond_retraining'], 'item')} moved up by more than any does by retraining." if retrained else ""
    return f"Of the places among the first 50, {100 * found['lists_changed']:.0f} % went to other items{usual}.{beyond}"


def repair_level(p_values: np.ndarray) -> float:
    """The p-value up to which items [V] are to be repaired: SUSPECT, or as much as the REPAIRED most unusual ones need.

    In a small catalogue none may have so small a p-value, although several of them together are unusual.
    """
    least = np.sort(p_values)[:REPAIRED]
    if least[0] <= SUSPECT:
        return SUSPECT
    return float(min(np.ceil(1000 * least[-1] + 1e-6) / 1000, 1.0))  # as printed


def one_in(chance: float) -> str:
    """A chance as "1 in 1,200"."""
    return "fewer than 1 in a million" if chance < 1e-6 else f"1 in {max(1, round(1 / chance)):,}"


def _user_in(share: float) -> str:
    return f"one user in {round(1 / max(share, 1e-9)):,}" if share < 0.67 else "every user"


def _of_100(share: float) -> str:
    return f"{100 * share:.3g}"


EXIT_STATUS = {CLEAN: 0, SUSPICIOUS: 3, CANNOT_SAY: 4}  # of launch.audit
