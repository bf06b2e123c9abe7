"""One device or many, in one process or several, behind the same calls; `item_table` splits item tables over the devices."""

from prec_backdoor.parallel.mesh import (
    AXIS,
    agree,
    all_gather,
    all_sum,
    device_index,
    gather,
    num_devices,
    on_device,
    pmap_step,
    primary,
    primary_first,
    replicate,
    shard,
    unreplicate,
    wait,
)

__all__ = [
    "AXIS",
    "agree",
    "all_gather",
    "all_sum",
    "device_index",
    "gather",
    "num_devices",
    "on_device",
    "pmap_step",
    "primary",
    "primary_first",
    "replicate",
    "shard",
    "unreplicate",
    "wait",
]
