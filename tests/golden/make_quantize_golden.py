"""Makes quantize.safetensors, which 8-bit integers for rows are held against, exactly.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python tests/golden/make_quantize_golden.py tests/golden

Symmetric, a scale for each row, in plain PyTorch: rows of several sizes of weights, of zeros, with quotients that lie
halfway between whole numbers, of the largest and the smallest floats (whose scale, a subnormal number, is so coarse
that quotients pass 127).
"""
import sys

import torch

from golden_file import write_safetensors

ROWS, COLUMNS = 40, 131


def main():
    generator = torch.Generator().manual_seed(99)
    w = torch.randn((ROWS, COLUMNS), generator=generator) * torch.exp(4 * torch.randn((ROWS, 1), generator=generator))
    w[3] = 0
    w[4] = torch.arange(COLUMNS) - 65.5  # the scale is 0.5157...
    w[5] = (torch.arange(COLUMNS) - 65).clamp(-63, 63) + 0.5
    w[5, 0] = 127  # the scale is 1: halves
    w[6] *= 1 / w[6].abs().max()
    w[6] *= 3e38
    w[7] *= 1e-36 / w[7].abs().max()
    w[8, ::2] = 0
    scale = w.abs().amax(1) / 127
    q = torch.where(scale[:, None] > 0, (w / scale[:, None]).round().clamp(-127, 127), 0.0)
    out = {"weight": w, "scale": scale, "q": q.to(torch.int8).to(torch.int32), "dequantized": q * scale[:, None] + 0.0}
    write_safetensors(sys.argv[1] + "/quantize.safetensors", out, {})


main()
