"""audit.html, for people: the verdict, what it rests on and what to do next; then the rest, folded where it is for experts."""

import base64
import io

import numpy as np
from matplotlib.figure import Figure

from prec_backdoor.audit import answer, texts
from prec_backdoor.audit.audit import AuditResult
from prec_backdoor.audit.config import SUSPECT
from prec_backdoor.audit.figures import all_figures
from prec_backdoor.audit.verdict import CLEAN, SUSPICIOUS
from prec_backdoor.audit.views import AS_IT_COMES
from prec_backdoor.data.interactions import Interactions
from prec_backdoor.reporting.pages import template


def page(content: dict, result: AuditResult, interactions: Interactions) -> str:
    """Returns the page about an audit, `content` is that of audit.json."""
    values = {
        "content": content,
        "answer": answer.answer(content),
        "is_clean": content["verdict"] == CLEAN,
        "suspects": sorted(
            (_suspect(result, interactions, index) for index in range(len(result.suspects))), key=lambda each: each["p_value"]
        ),
        "users": len(result.views[AS_IT_COMES].user_vectors),
        "audits": {name: texts.AUDITS.get(name, (name, ""))[0] for name in result.scores},
        "words": texts.words(result.scores),
        "triggers": _triggers(content, interactions),
        "group": answer.group(content),
        "variants": answer.variants(content),
        "worth": answer.worth(content),
        "moved": answer.moved(content),
        "moved_items": _moved(content, interactions),
        "limits": texts.LIMITS,
        "repaired": answer.one_in(answer.repair_level(result.p_value)),
        "figures": [(title, caption, _png(figure)) for title, caption, figure in all_figures(result)],
    }
    return template("audit.html").render(values)


def _suspect(result: AuditResult, interactions: Interactions, index: int) -> dict:
    """A line of the tables of items."""
    item, inverted, moments = int(result.suspects[index]), result.inverted, result.views[AS_IT_COMES]
    history = moments.auditor_data.popularity()
    return {
        "item": str(interactions.item_ids[item]),
        "title": _title(interactions, item),
        "category": interactions.categories[interactions.category[item]],
        "flagged": bool(result.flagged[item - 1]),
        "score": result.score[item - 1],
        "p_value": result.p_value[item - 1],
        "rarity": answer.one_in(result.p_value[item - 1]),
        "popularity": int(history[item]),
        "shown_to": round(moments.top_share[item] * (len(moments.user_vectors) - history[item])),
        "top": moments.top_share[item],
        "audits": {name: (result.scores[name][item - 1], result.evidence[name][item - 1]) for name in result.scores},
        "anomaly": inverted.index[index],
        "effort": inverted.effort[index],
        "trigger": _named(interactions, int(inverted.trigger[index])) if inverted.trigger[index] else "none",
        "lifted": inverted.lifted[index],
    }


def _triggers(content: dict, interactions: Interactions) -> list[dict]:
    """The last items that are too strong for a clean model, with names, and the names of what they show."""
    codes = _codes(interactions)
    return [
        {
            "name": _named(interactions, codes[each["item"]]),
            "rarity": answer.one_in(each["p_value"]),
            "names": [_named(interactions, codes[item]) for item in each["shown"]],
        }
        for each in content["last_items"]
        if each["p_value"] <= SUSPECT and content["verdict"] == SUSPICIOUS
    ]


def _moved(content: dict, interactions: Interactions) -> list[dict]:
    """The items that moved up between two versions, with titles."""
    if "baseline" not in content:
        return []
    codes = _codes(interactions)
    return [each | {"title": _title(interactions, codes[each["item"]])} for each in content["baseline"]["moved_up"]]


def _codes(interactions: Interactions) -> dict[str, int]:
    """Raw id -> code."""
    return {raw: code for code, raw in enumerate(np.asarray(interactions.item_ids).tolist()) if code}


def _named(interactions: Interactions, item: int) -> str:
    return _title(interactions, item) or str(interactions.item_ids[item])


def _title(interactions: Interactions, item: int) -> str:
    return " ".join(str(interactions.titles[item]).split())


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return base64.b64encode(buffer.getvalue()).decode()
