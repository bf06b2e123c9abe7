"""Views: the ways in which a downstream company may use a model, and a panel of histories that nobody has."""

import dataclasses

import jax

from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.moments import ScoreMoments, observe
from prec_backdoor.audit.panel import PANEL, draw_panel
from prec_backdoor.models import ModelConfig, init_prompt

AS_IT_COMES = "as it comes"
WITHOUT_PROMPT = "without its prompt"
FRESH_PROMPT = "fresh prompt"


def observe_views(
    params: dict, model: ModelConfig, auditor_data: AuditorData, fresh_prompts: int = 1, panel_seed: int | None = None
) -> dict[str, ScoreMoments]:
    """View -> moments. A model that has a prompt is also observed without it, and with `fresh_prompts` random ones.

    With a seed there is a view of `draw_panel`, too; items are as popular in it as in the histories that it is drawn from.

    A model that has no prompt has one view: it was not trained for prompts, so that a random one would only add noise.
    """
    views = {AS_IT_COMES: observe(params, model, auditor_data)}
    if model.prompt_length:
        without = {name: value for name, value in params.items() if name != "prompt"}
        plain = dataclasses.replace(model, prompt_length=0, profile_sizes=())
        views[WITHOUT_PROMPT] = observe(without, plain, auditor_data)
        for number in range(fresh_prompts):
            prompt = init_prompt(jax.random.key(number), model)
            views[f"{FRESH_PROMPT} {number + 1}"] = observe(without | {"prompt": prompt}, model, auditor_data)
    if panel_seed is not None:
        views[PANEL] = observe(params, model, draw_panel(auditor_data, panel_seed))._replace(auditor_data=auditor_data)
    return views
