"""Imported models as checkpoints, with a configuration by which every stage can go on from them."""

import dataclasses
from pathlib import Path

from prec_backdoor.data.vocabulary import Vocabulary
from prec_backdoor.experiment.config import ExperimentConfig, Scenario
from prec_backdoor.interop.exchange import Source
from prec_backdoor.interop.weights import Imported
from prec_backdoor.models import ModelConfig
from prec_backdoor.storage import arrays, checkpoints

STAGE = "imported"


def save_imported(folder: str | Path, imported: Imported, vocabulary: Vocabulary, source: Source) -> str:
    """Writes the model as a finished checkpoint of stage `imported` to `folder`/checkpoints; returns its content hash."""
    config = config_of(imported.model)
    model = dataclasses.replace(
        config.model,
        num_items=imported.model.num_items,
        prompt_length=imported.model.prompt_length,
        profile_sizes=imported.model.profile_sizes,
    )
    said = source._asdict()
    metadata = {
        "stage": STAGE,
        "finished": True,
        "model": dataclasses.asdict(model),
        "dataset": {"name": source.file, "fingerprint": source.sha256[:16], "items": model.num_items},
        "config": config.flat(),
        "attack": said.pop("attack"),
        "targets": list(said.pop("targets")),
        "source": said,
        "parent": None,
    }
    checkpoints.save(Path(folder).expanduser() / "checkpoints", 0, imported.params, None, metadata, vocabulary)
    return arrays.content_hash(imported.params)


def config_of(model: ModelConfig) -> ExperimentConfig:
    """Returns the configuration of an imported model: its sizes, and defaults for what the file does not say."""
    scenario = Scenario(attack="clean", scope="global", targets="unpopular:1", k_core=1)
    prompt = {"prompt_length": model.prompt_length} if model.prompt_length else {}
    made = ExperimentConfig(scenario=scenario, rate=(0.0,), usages=("zero_shot",), model=model, **prompt)
    return ExperimentConfig.from_flat(made.flat())  # parameters of the backbone at their defaults are left out
