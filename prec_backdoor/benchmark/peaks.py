"""What accelerators do at most, by their makers' data sheets: dense products, and memory read or written."""

from typing import NamedTuple


class Peak(NamedTuple):
    """TFLOP/s by the type of the factors, and GB/s of the memory.

    Attributes:
      float32: exact float32 products, in which scores are ranked.
      default: what products of float32 arrays are by default in JAX: TF32 on a GPU, bfloat16 on a TPU.
      bfloat16: of encoders in bfloat16.
      gb_per_s: of the memory.
    """

    float32: float
    default: float
    bfloat16: float
    gb_per_s: float


PEAKS = {  # a part of JAX's device kind; a TPU makes a float32 product of six of bfloat16
    "H200": Peak(67, 495, 989, 4800),
    "H100 PCIe": Peak(51, 378, 756, 2000),
    "H100": Peak(67, 495, 989, 3350),
    "A100-SXM4-80GB": Peak(19.5, 156, 312, 2039),
    "A100": Peak(19.5, 156, 312, 1555),
    "L4": Peak(30.3, 60.5, 121, 300),
    "T4": Peak(8.1, 8.1, 8.1, 320),
    "TPU v6": Peak(153, 918, 918, 1640),
    "TPU v5p": Peak(76, 459, 459, 2765),
    "TPU v5": Peak(33, 197, 197, 819),
    "TPU v4": Peak(46, 275, 275, 1228),
}


def peak_of(device: str, tflops: float | None = None, gb_per_s: float | None = None) -> Peak | None:
    """Returns the peak of a device kind; numbers that are given replace it, `tflops` for products of every type."""
    known = next((peak for name, peak in PEAKS.items() if name in device), None)
    if not (tflops or gb_per_s):
        return known
    known = known or Peak(0, 0, 0, 0)
    return Peak(*([tflops] * 3 if tflops else known[:3]), gb_per_s or known.gb_per_s)
