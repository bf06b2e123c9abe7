"""The audit page of each model of a contest, which its cells link to."""

from pathlib import Path

from prec_backdoor.audit.audit import AuditResult
from prec_backdoor.audit.config import AuditConfig
from prec_backdoor.audit.report import write_audit
from prec_backdoor.experiment.setup import SeedSetup

PAGE = "audit.html"


def page_of(audit: str) -> str:
    """Returns the path of the audit page, from the path of the row of an audit."""
    return (Path(audit).with_suffix("") / PAGE).as_posix()


def write_page(
    folder: Path, audit: str, setup: SeedSetup, result: AuditResult, config: AuditConfig, model: tuple[str, str]
) -> None:
    """Writes the page of an audit, and audit.json beside it, under `folder`.

    Args:
      audit: path of the row of the audit.
      model: path and content hash of the audited model.
    """
    dataset = setup.interactions.summary()
    about = {
        "checkpoint": model[0],
        "hash": model[1],
        "stage": Path(model[0]).name,
        "dataset": f"{dataset['name']}, {dataset['items']:,} items",
        "users": f"{len(setup.test.users):,} downstream",
    }
    place = (folder / page_of(audit)).parent
    place.mkdir(parents=True, exist_ok=True)
    write_audit(place, result, setup.interactions, config, about)
