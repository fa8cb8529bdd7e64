"""The precision to compute in on this hardware."""

import torch

from kd.base.types import PrecisionName, UserError


def resolve_precision(precision: PrecisionName) -> PrecisionName:
    """Resolve `auto`: bf16 where the hardware computes it, else fp16 on CUDA, else fp32.

    Raises UserError for fp16 without a GPU, where it would be slow and could overflow.
    """
    cuda = torch.cuda.is_available()
    if precision == "fp16" and not cuda:
        raise UserError("precision='fp16' needs a CUDA GPU, and this machine has none: give auto, bf16 or fp32")
    if precision != "auto":
        return precision
    if cuda:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    in_hardware = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if in_hardware else "fp32"


def autocast_dtype(precision: PrecisionName) -> torch.dtype | None:
    """Return the dtype of autocast for a resolved precision; None for fp32."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
