"""Distillation: a fresh model, trained on sequences that the suspicious model generates without suspects.

Only outputs are used, as in the extraction of a sequential recommender without its data (Yue et al., RecSys 2021), and no
suspect is ever a label. What remains of a backdoor can show only in the items that are recommended in place of suspects.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from prec_backdoor.audit.auditor_data import AuditorData, auditor_data_of
from prec_backdoor.audit.calibration import stage_data
from prec_backdoor.audit.tiles import tiles
from prec_backdoor.experiment import stages
from prec_backdoor.experiment.setup import SeedSetup
from prec_backdoor.experiment.stages import StartPoint
from prec_backdoor.models import ModelConfig, init_params, item_vectors, represent, scores
from prec_backdoor.train.loop import run_stage
from prec_backdoor.train.stage import RunOptions, Stage, StageRun

SEQUENCES = 512
TOP = 50  # items from which the next one is drawn


def distil(setup: SeedSetup, start: StartPoint, suspects: np.ndarray, options: RunOptions) -> StageRun:
    """Trains a fresh model without prompts, as the provider's was trained, on generated sequences; then fine-tunes it.

    The fresh model is trained by this call, in `options.folder`/student.
    """
    auditor_data, key = auditor_data_of(setup), setup.role_key("finetune")
    picked = auditor_data.select(np.random.default_rng(0).integers(0, len(auditor_data.history), SEQUENCES))
    sequences = continued(start.params, setup.model_of(start.params), picked, suspects, jax.random.fold_in(key, 1))
    data, _ = stage_data(picked._replace(history=sequences), setup.model.max_length)
    fresh = start._replace(params=init_params(jax.random.fold_in(key, 2), setup.model))
    run = stages.run_on(setup, Stage("student", setup.config.pretrain), fresh, data, role="finetune")
    student = run_stage(run._replace(options=options._replace(folder=options.subfolder("student"))))
    return stages.finetune(setup, StartPoint.after(student, start.rate), "repair")


def continued(params: dict, model: ModelConfig, auditor_data: AuditorData, suspects: np.ndarray, key: jax.Array) -> np.ndarray:
    """[U, max_length] the histories, each continued item by item until the longest has max_length items.

    The next item is drawn by its probability from the first 50 items that are neither suspects nor in the sequence. A sequence
    that has all others ends there.
    """
    length = auditor_data.history.shape[1]
    history = np.pad(auditor_data.history, ((0, 0), (model.max_length - length, 0)))
    # A mask, as the length of a list would be a shape, and each number of suspects would compile its own program.
    allowed = ~np.isin(np.arange(len(auditor_data.category)), [0, *suspects])
    continue_tile, sequences = _compiled(model, model.max_length - length), []
    with tqdm(total=len(history), desc="continuing", unit="user", leave=False, disable=None) as bar:
        for index, (number, parts) in enumerate(tiles(history, auditor_data.profile)):
            sequences.append(np.asarray(continue_tile(params, *parts, allowed, jax.random.fold_in(key, index)))[:number])
            bar.update(number)
    return np.concatenate(sequences)


@functools.lru_cache(maxsize=4)
def _compiled(model: ModelConfig, steps: int):
    """Returns the program that appends `steps` items to each history of a tile."""

    @jax.jit
    def continue_tile(params, history, profile, allowed, key):
        number = jnp.arange(len(history))[:, None]

        def append(history, key):
            hidden = represent(params, model, history, profile if model.prompt_length else None)
            found = scores("bd,vd->bv", hidden, item_vectors(params, model))
            found = jnp.where(allowed, found, -jnp.inf).at[number, history].set(-jnp.inf)
            best, items = jax.lax.top_k(found, min(TOP, found.shape[1]))
            chosen = jnp.take_along_axis(items, jax.random.categorical(key, best)[:, None], axis=1)
            longer = jnp.concatenate([history[:, 1:], chosen], axis=1)
            return jnp.where(best[:, :1] > -jnp.inf, longer, history), None  # as it is, if no item is left

        return jax.lax.scan(append, history, jax.random.split(key, steps))[0]

    return continue_tile
