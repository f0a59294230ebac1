"""Quantizers with a learned latent: RQ-KMeans+ (GPR 2.2) and the RQ-VAE baseline.

Both quantize z = encoder(x) residually and are trained with
    MSE(decoder(sum_l c_l), x) + w_q * sum_l ( ||sg(r_l) - c_l||^2 + beta * ||r_l - sg(c_l)||^2 ),  straight-through.
RQ-KMeans+ starts from fitted RQ-KMeans codebooks and a residual encoder z = x + MLP(x) whose last layer is zero, so it
begins exactly where RQ-KMeans ends. RQ-VAE starts from a plain encoder and k-means of its first latents.

Shapes: N and B vectors, E features, D latent features, V codes, T levels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from adbeam.tokens.config import QuantizerConfig
from adbeam.tokens.quantizers.balanced import Codebook
from adbeam.tokens.quantizers.cheapest_code import cheapest
from adbeam.tokens.quantizers.rq_kmeans import RQKMeans, distinct, sample_rows

log = logging.getLogger(__name__)

COMMITMENT = 0.25
"""beta of VQ-VAE (van den Oord et al., 2017)."""
REVIVAL_ROUNDS = 3


class ResidualEncoder(nn.Module):
    """z = x + MLP(x), the identity at first: the latents stay near the data the codebooks were fitted on."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        last = nn.Linear(hidden, features)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), last)

    def forward(self, x_BE: Tensor) -> Tensor:
        """float32 [B, E]."""
        added_BE: Tensor = self.mlp(x_BE)
        return x_BE + added_BE


class LearnedQuantizer(RQKMeans):
    """RQ-KMeans over latents, trained further together with an encoder and a decoder."""

    def __init__(self, codebooks: Sequence[int], config: QuantizerConfig, *, seed: int = 0) -> None:
        super().__init__(codebooks, config, seed=seed)
        self.features = 0
        self.encoder: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()

    def fit(self, x_NE: np.ndarray) -> None:
        """Codebooks by k-means on the first latents, then gradient descent on all of it."""
        torch.manual_seed(self.seed)
        x_NE = sample_rows(distinct(x_NE), self._sample_size(), self.seed)
        self._build(x_NE.shape[1])
        super().fit(self._latent(x_NE))
        self._train(torch.from_numpy(x_NE))

    def encode(self, x_NE: np.ndarray, business_N: np.ndarray | None) -> np.ndarray:
        """int32 [N, T]: the SID of each vector."""
        return super().encode(self._latent(x_NE), business_N)

    @torch.inference_mode()
    def reconstruct(self, sids_NT: np.ndarray) -> np.ndarray:
        """float32 [N, E]: the decoder's view of the sum of the chosen codes."""
        x_NE: Tensor = self.decoder(torch.from_numpy(super().reconstruct(sids_NT)))
        return x_NE.numpy()

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """As RQ-KMeans, with the weights of encoder and decoder."""
        settings, tensors = super().state()
        settings["features"] = self.features
        for part, module in (("encoder", self.encoder), ("decoder", self.decoder)):
            tensors |= {f"quantizer.{part}.{name}": tensor for name, tensor in module.state_dict().items()}
        return settings, tensors

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The fitted quantizer again."""
        quantizer = super().from_state(settings, tensors)
        quantizer._build(settings["features"])
        for part, module in (("encoder", quantizer.encoder), ("decoder", quantizer.decoder)):
            prefix = f"quantizer.{part}."
            own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(own)
        return quantizer

    def _build(self, features: int) -> None:
        raise AssertionError("a learned quantizer names its encoder and decoder")

    @torch.inference_mode()
    def _latent(self, x_NE: np.ndarray) -> np.ndarray:
        step = self.config.batch_vectors
        rows = torch.from_numpy(np.ascontiguousarray(x_NE, np.float32))
        return torch.cat(
            [self.encoder(rows[start : start + step]) for start in range(0, max(len(rows), 1), step)]
        ).numpy()

    def _train(self, x_NE: Tensor) -> None:
        codes = [nn.Parameter(torch.from_numpy(level.centroid_VE.copy())) for level in self.levels]
        parameters = [*self.encoder.parameters(), *self.decoder.parameters(), *codes]
        optimizer = torch.optim.AdamW(parameters, lr=self.config.learning_rate)
        order = torch.Generator().manual_seed(self.seed)
        for epoch in range(self.config.epochs):
            total = 0.0
            for rows in torch.split(torch.randperm(len(x_NE), generator=order), self.config.training_batch):
                loss = self._loss(x_NE[rows], codes)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                total += loss.item() * len(rows)
            revived = self._revive(x_NE, codes, order)
            if revived:
                log.debug("%s epoch %d: %d codes that nobody used start again", self.method, epoch, revived)
            if epoch % 10 == 0:
                log.info("%s epoch %d of %d: loss %.5f", self.method, epoch, self.config.epochs, total / len(x_NE))
        self.levels = [Codebook(code.detach().numpy(), np.zeros(len(code), np.float32)) for code in codes]

    @torch.no_grad()
    def _revive(self, x_NE: Tensor, codes: list[nn.Parameter], random: torch.Generator) -> int:
        """Put each code that no vector of the sample chooses onto a residual drawn at random; returns how many.

        The usual remedy for codebook collapse (random restarts, as in Jukebox): a code without vectors gets no gradient
        and would stay dead.
        """
        residual_ND, revived = torch.from_numpy(self._latent(x_NE.numpy())), 0
        for code_VD in codes:
            for _ in range(REVIVAL_ROUNDS):  # a code that starts again may take the last vector of another
                used_V = torch.bincount(_nearest(residual_ND, code_VD), minlength=len(code_VD)) > 0
                dead = (~used_V).nonzero()[:, 0][: len(residual_ND)]
                code_VD[dead] = residual_ND[torch.randperm(len(residual_ND), generator=random)[: len(dead)]]
                revived += len(dead)
            residual_ND = residual_ND - code_VD[_nearest(residual_ND, code_VD)]
        return revived

    def _loss(self, x_BE: Tensor, codes: list[nn.Parameter]) -> Tensor:
        z_BD = self.encoder(x_BE)
        residual_BD, chosen_BD, quantization = z_BD, torch.zeros_like(z_BD), z_BD.new_zeros(())
        for code_VD in codes:
            with torch.no_grad():
                nearest_B = _nearest(residual_BD, code_VD)
            picked_BD = code_VD[nearest_B]
            quantization = quantization + (residual_BD.detach() - picked_BD).square().mean()
            quantization = quantization + COMMITMENT * (residual_BD - picked_BD.detach()).square().mean()
            residual_BD = residual_BD - picked_BD
            chosen_BD = chosen_BD + picked_BD
        through_BD = z_BD + (chosen_BD - z_BD).detach()
        reconstruction = (self.decoder(through_BD) - x_BE).square().mean()
        loss: Tensor = reconstruction + self.config.quantization_weight * quantization
        return loss


class RQKMeansPlus(LearnedQuantizer):
    """RQ-KMeans+: k-means codebooks, a residual encoder that starts as the identity, RQ-VAE loss."""

    method = "rq_kmeans_plus"

    def _build(self, features: int) -> None:
        self.features = features
        self.encoder = ResidualEncoder(features, self.config.hidden)
        self.decoder = ResidualEncoder(features, self.config.hidden)


class RQVAE(LearnedQuantizer):
    """The usual RQ-VAE: a narrowing encoder and a widening decoder."""

    method = "rq_vae"

    def _build(self, features: int) -> None:
        self.features = features
        self.encoder = _mlp(features, self.config.hidden, self.config.latent_dimensions)
        self.decoder = _mlp(self.config.latent_dimensions, self.config.hidden, features)


def _nearest(x_ND: Tensor, code_VD: Tensor) -> Tensor:
    """int64 [N]: the nearest code of each vector."""
    zero_V = np.zeros(len(code_VD), np.float32)
    code_N = cheapest(x_ND.detach().numpy(), code_VD.detach().numpy(), zero_V)
    return torch.from_numpy(code_N).long()


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
