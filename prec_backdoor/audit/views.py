"""The ways in which a downstream company may use a model: as it comes, without its prompt, with a prompt of its own."""

import dataclasses

import jax

from prec_backdoor.audit.auditor_data import AuditorData
from prec_backdoor.audit.moments import ScoreMoments, observe
from prec_backdoor.models import ModelConfig, init_prompt

AS_IT_COMES = "as it comes"
WITHOUT_PROMPT = "without its prompt"
FRESH_PROMPT = "fresh prompt"


def look(params: dict, model: ModelConfig, auditor_data: AuditorData, fresh: int = 1) -> dict[str, ScoreMoments]:
    """View -> what is observed; a model that comes with a prompt is also seen without it, and with `fresh` random ones.

    A model without prompts is seen as it comes: a random prompt tells of nothing that it was trained for.
    """
    views = {AS_IT_COMES: observe(params, model, auditor_data)}
    if model.prompt_length:
        bare = {name: value for name, value in params.items() if name != "prompt"}
        plain = dataclasses.replace(model, prompt_length=0, profile_sizes=())
        views[WITHOUT_PROMPT] = observe(bare, plain, auditor_data)
        for number in range(fresh):
            views[f"{FRESH_PROMPT} {number + 1}"] = observe(
                bare | {"prompt": init_prompt(jax.random.key(number), model)}, model, auditor_data
            )
    return views
