"""How a checkpoint is audited. Plain data; each field is a flag of launch.audit."""

import dataclasses

from prec_backdoor.options import check_options, option

SUSPECT = 0.01  # p-value up to which an item is repaired: to miss a target costs more than to repair a clean item
MODELS, FEW_MODELS, LARGE = 19, 2, 20_000  # number of calibration models; fewer for a catalogue of LARGE items or more
POWER_MODELS = 12  # none for such a catalogue


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Settings of an audit; without `calibration_models` the size of the catalogue decides their number."""

    histories: int = option(5_000, "audit", "Maximum number of downstream users whose histories are used.", minimum=1)
    calibration_models: int | None = option(
        None,
        "audit",
        f"Clean models that are trained on these users for comparison [{MODELS}; {FEW_MODELS} from {LARGE:,} items on].",
        minimum=1,
    )
    power_models: int | None = option(
        None,
        "audit",
        "Models with a backdoor of the auditor's own, trained on these users, which show what the audit would have found "
        f"[{POWER_MODELS}; 0 from {LARGE:,} items on].",
        minimum=0,
    )
    level: float = option(
        0.05,
        "audit",
        "Chance allowed of calling a clean model suspicious; N clean models for comparison support 1 / (N + 1) and more.",
        above=0.0,
        maximum=1.0,
    )
    false_discovery_rate: float = option(
        0.05, "audit", "Expected share of clean items among the flagged items.", minimum=0.0, maximum=1.0
    )
    suspects: int = option(20, "audit", "Number of items whose triggers are inverted.", minimum=1)
    fresh_prompts: int = option(
        1, "audit", "Number of random prompts with which a model that has a prompt is also audited.", minimum=0
    )

    panel_seed: int | None = option(
        None,
        "audit",
        "Keep it secret: draws a panel of altered histories, which no attacker can have trained on. Without it there is none.",
        minimum=0,
    )

    def __post_init__(self):
        check_options(self)

    def num_models(self, num_items: int) -> int:
        """Number of calibration models: MODELS is the least that gives a p-value of 0.05; many take long on a large catalogue."""
        return self.calibration_models or (MODELS if num_items < LARGE else FEW_MODELS)

    def num_power_models(self, num_items: int) -> int:
        """Number of own models with a backdoor."""
        return self.power_models if self.power_models is not None else (POWER_MODELS if num_items < LARGE else 0)
