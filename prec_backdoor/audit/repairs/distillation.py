"""Distillation into a fresh model that never sees a suspect as a label, from sequences that the suspicious model goes on with.

Nothing but its outputs is taken over (as Yue et al., RecSys 2021, extract a sequential recommender without its data), and of
these not the suspects: what remains of a backdoor would have to show in what it recommends instead of them.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor import pipeline
from prec_backdoor.audit.calibration import stage_data
from prec_backdoor.audit.known import Known, known_of
from prec_backdoor.audit.tiles import tiles
from prec_backdoor.models import ModelConfig, init_params, represent
from prec_backdoor.pipeline import Source
from prec_backdoor.setting import Setting
from prec_backdoor.train.stage import Stage, StageResult

SEQUENCES = 512
TOP = 50  # items that the next one is drawn from


def distil(setting: Setting, source: Source, suspects: np.ndarray, folder: Path | None = None, **how) -> StageResult:
    """Trains a fresh model, without prompts, as the provider's was, on sequences of the latter's; then fine-tunes."""
    known, key = known_of(setting), setting.role_key("finetune")
    picked = known.select(np.random.default_rng(0).integers(0, len(known.history), SEQUENCES))
    made = continued(source.params, setting.model_of(source.params), picked, suspects, jax.random.fold_in(key, 1))
    data, _ = stage_data(picked._replace(history=made), setting.model.max_length)
    fresh = source._replace(params=init_params(jax.random.fold_in(key, 2), setting.model))
    stage, place = Stage("student", setting.config.pretrain), folder and folder / "student"
    student = pipeline.run_on(setting, stage, fresh, data, role="finetune", folder=place, **how)
    return pipeline.finetune(setting, source._replace(params=student.params, hash=student.hash), "repair", folder=folder, **how)


def continued(params: dict, model: ModelConfig, known: Known, suspects: np.ndarray, key: jax.Array) -> np.ndarray:
    """[U, max_length] the histories, each gone on with item by item until the longest are full.

    The next item is drawn by its probability from the first 50 that are neither suspects nor in the sequence.
    """
    length = known.history.shape[1]
    history = np.pad(known.history, ((0, 0), (model.max_length - length, 0)))
    allowed = ~np.isin(np.arange(len(known.category)), [0, *suspects])  # not a list: its length would compile anew
    go_on, made = _compiled(model, model.max_length - length), []
    with tqdm(total=len(history), desc="continuing", unit="user", leave=False, disable=None) as bar:
        for index, (_, number, parts) in enumerate(tiles(history, known.profile)):
            made.append(np.asarray(go_on(params, *parts, allowed, jax.random.fold_in(key, index)))[:number])
            bar.update(number)
    return np.concatenate(made)


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig, steps: int):
    @jax.jit
    def run(params, history, profile, allowed, key):
        number = jnp.arange(len(history))[:, None]

        def go_on(history, key):
            hidden = represent(params, model, history, profile if model.prompt_length else None)
            scores = jnp.where(allowed, hidden @ params["items"].T, -jnp.inf).at[number, history].set(-jnp.inf)
            best, items = jax.lax.top_k(scores, min(TOP, scores.shape[1]))
            chosen = jnp.take_along_axis(items, jax.random.categorical(key, best)[:, None], axis=1)
            return jnp.concatenate([history[:, 1:], chosen], axis=1), None

        return jax.lax.scan(go_on, history, jax.random.split(key, steps))[0]

    return run
