"""RQ-KMeans+ and RQ-VAE: where they start, that training helps, and that their state is complete."""

from __future__ import annotations

import numpy as np
import pytest

from adbeam.tokens.config import QuantizerConfig
from adbeam.tokens.quantizers.rq_kmeans import RQKMeans
from adbeam.tokens.quantizers.rq_vae import RQVAE, RQKMeansPlus


def curved(vectors: int = 1500) -> np.ndarray:
    """Points near a two-dimensional surface in 12 dimensions."""
    random = np.random.default_rng(0)
    hidden_N2 = random.normal(size=(vectors, 2))
    x_NE = np.tanh(hidden_N2 @ random.normal(size=(2, 12))) + 0.02 * random.normal(size=(vectors, 12))
    return x_NE.astype(np.float32)


def error(quantizer: RQKMeans, x_NE: np.ndarray) -> float:
    return float(np.square(quantizer.reconstruct(quantizer.encode(x_NE, None)) - x_NE).mean())


def config(**values: object) -> QuantizerConfig:
    return QuantizerConfig(hashed_last_level=False, hidden=32, latent_dimensions=4, training_batch=256, **values)


def test_rq_kmeans_plus_begins_where_rq_kmeans_ends() -> None:
    x_NE = curved()
    plain, plus = RQKMeans((16, 8), config(balanced=False)), RQKMeansPlus((16, 8), config(balanced=False, epochs=0))
    plain.fit(x_NE)
    plus.fit(x_NE)
    np.testing.assert_array_equal(plus.encode(x_NE, None), plain.encode(x_NE, None))
    assert error(plus, x_NE) == pytest.approx(error(plain, x_NE), rel=1e-4)


@pytest.mark.parametrize("kind", [RQKMeansPlus, RQVAE])
def test_training_lowers_the_reconstruction_error(kind: type[RQKMeans]) -> None:
    x_NE = curved()
    untrained, trained = kind((16, 8), config(epochs=0)), kind((16, 8), config(epochs=40, learning_rate=2e-3))
    untrained.fit(x_NE)
    trained.fit(x_NE)
    assert error(trained, x_NE) < 0.9 * error(untrained, x_NE)
    assert error(trained, x_NE) < np.square(x_NE - x_NE.mean(0)).mean() / 2


def test_codes_that_nobody_uses_start_again() -> None:
    """A latent that moves far leaves most codes behind: without restarts they would never be chosen again."""
    x_NE = curved(1000)
    quantizer = RQVAE((32, 32), config(epochs=30, learning_rate=2e-2))
    quantizer.fit(x_NE)
    used = [len(np.unique(codes)) for codes in quantizer.encode(x_NE, None).T]
    assert min(used) >= 0.95 * 32


@pytest.mark.parametrize("kind", [RQKMeansPlus, RQVAE])
def test_the_state_is_complete(kind: type[RQKMeans]) -> None:
    x_NE = curved(400)
    quantizer = kind((16, 8), config(epochs=3))
    quantizer.fit(x_NE)
    restored = kind.from_state(*quantizer.state())
    np.testing.assert_array_equal(restored.encode(x_NE, None), quantizer.encode(x_NE, None))
    np.testing.assert_allclose(
        restored.reconstruct(restored.encode(x_NE, None)), quantizer.reconstruct(quantizer.encode(x_NE, None))
    )
