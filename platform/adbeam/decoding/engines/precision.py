"""Precision and quantization: matrix products in float32, bfloat16 or int8, which a layer calls instead of a weight.

float32 is the reference. `bfloat16` halves memory and runs all of the search but the scores in bfloat16. `int8` keeps
the layers' weights as int8 with one scale an output; on the CPU the products run in int8 too, with activations scaled
as they come; on other devices the weights are widened before the product. Heads and tables stay float32 under int8.

Shapes: R rows, I inputs, O outputs.
"""

from __future__ import annotations

import warnings
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Precision = Literal["float32", "bfloat16", "int8"]


class Linear(Protocol):
    """y = W x + b."""

    def into(self, y_RO: Tensor, x_RI: Tensor) -> Tensor:
        """Write W x + b over y; returns y."""

    def add_to(self, y_RO: Tensor, x_RI: Tensor) -> Tensor:
        """y += W x + b, in place; returns y."""


class DenseLinear:
    """Weights in one float type, stored inputs first: with few rows the product then runs at up to twice the speed."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor, dtype: torch.dtype) -> None:
        self.weight_IO, self.bias_O = weight_OI.to(dtype).T.contiguous(), bias_O.to(dtype)

    def into(self, y_RO: Tensor, x_RI: Tensor) -> Tensor:
        """The bias is added inside the product."""
        return torch.addmm(self.bias_O, x_RI, self.weight_IO, out=y_RO)

    def add_to(self, y_RO: Tensor, x_RI: Tensor) -> Tensor:
        """The residual sum happens inside the product."""
        return y_RO.add_(self.bias_O).addmm_(x_RI, self.weight_IO)


class Int8Linear:
    """Weights int8 [O, I] with a scale for each output; widened for each product."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor) -> None:
        self.scale_O = weight_OI.abs().amax(dim=1).clamp_min(1e-8) / 127
        self.weight_OI = (weight_OI / self.scale_O[:, None]).round().to(torch.int8)
        self.bias_O = bias_O

    def into(self, y_RO: Tensor, x_RI: Tensor) -> Tensor:
        """y = W x + b."""
        return y_RO.copy_(F.linear(x_RI, self.weight_OI.to(x_RI.dtype)).mul_(self.scale_O).add_(self.bias_O))

    def add_to(self, y_RO: Tensor, x_RI: Tensor) -> Tensor:
        """y += W x + b."""
        return y_RO.add_(F.linear(x_RI, self.weight_OI.to(x_RI.dtype)).mul_(self.scale_O).add_(self.bias_O))


class CpuInt8Linear:
    """int8 weights and products of the CPU's own int8 instructions (VNNI, AMX)."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor) -> None:
        scale_O = weight_OI.abs().amax(dim=1).clamp_min(1e-8).double() / 127
        zero_O = torch.zeros(len(scale_O), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the operators stay; what is announced to leave is their old front end
            quantized = torch.quantize_per_channel(weight_OI.float(), scale_O, zero_O, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(quantized, bias_O.float())

    def into(self, y_RO: Tensor, x_RI: Tensor) -> Tensor:
        """y = W x + b."""
        return y_RO.copy_(torch.ops.quantized.linear_dynamic(x_RI, self.packed, False))

    def add_to(self, y_RO: Tensor, x_RI: Tensor) -> Tensor:
        """y += W x + b."""
        return y_RO.add_(torch.ops.quantized.linear_dynamic(x_RI, self.packed, False))


def linear(weight_OI: Tensor, bias_O: Tensor, precision: Precision) -> Linear:
    """The product of one layer in a precision."""
    if precision == "int8":
        return CpuInt8Linear(weight_OI, bias_O) if weight_OI.device.type == "cpu" else Int8Linear(weight_OI, bias_O)
    return DenseLinear(weight_OI, bias_O, dtype_of(precision))


def dtype_of(precision: Precision) -> torch.dtype:
    """The type of activations, norms, tables and the context's keys and values."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
