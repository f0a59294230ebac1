"""A model: LazyAR that is taught the first code of an ad harder, for a wrong first code loses the whole ad."""

from torch import Tensor

from adbeam.features.batch import TrainBatch
from adbeam.model.config import ModelConfig
from adbeam.model.lazyar import LazyAR


class FirstCodeLazyAR(LazyAR):
    """The loss of the first code counts `options.weight` times."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._more = float(config.options.get("weight", 2.0)) - 1.0

    def train_losses(self, batch: TrainBatch, mtp: bool = True, ecpm: bool = True) -> dict[str, Tensor]:
        """As of LazyAR, with `sid` weighed anew; `level` [T, B, P, M] are its terms."""
        losses = super().train_losses(batch, mtp, ecpm)
        return {**losses, "sid": losses["sid"] + self._more * losses["level"][0]}
