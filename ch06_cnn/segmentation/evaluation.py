"""Predicted masks of all images of a split, their worst errors, and the throughput.

Dimensions: N images, H, W height and width, K classes.
"""

import torch
from torch import Tensor, nn

from common.data.masks.masked import VOID
from common.device import Timer


@torch.inference_mode()
def segment(model: nn.Module, pixels: Tensor, *, batch_size: int = 32, bf16: bool = False) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, H, W) uint8 class of each pixel on the CPU, in evaluation mode"""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    masks = []
    for batch in pixels.split(batch_size):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(batch.to(device))
        masks.append(logits.argmax(1).to(torch.uint8).cpu())
    model.train(was_training)
    return torch.cat(masks)


def inference_rate(model: nn.Module, pixels: Tensor, *, batch_size: int, bf16: bool) -> float:
    """Images per second from bytes to masks, without loading."""
    segment(model, pixels[:batch_size], batch_size=batch_size, bf16=bf16)
    with Timer(next(model.parameters()).device) as timer:
        segment(model, pixels, batch_size=batch_size, bf16=bf16)
    return len(pixels) / timer.seconds


def worst_errors(masks: Tensor, guesses: Tensor) -> Tensor:
    """(N, H, W) true and predicted masks -> images with wrong pixels, the one with the largest share first"""
    counted = masks != VOID
    wrong = (counted & (masks != guesses)).flatten(1).sum(1)
    share = wrong / counted.flatten(1).sum(1).clamp(min=1)
    return share.argsort(descending=True, stable=True)[: int((wrong > 0).sum())]
