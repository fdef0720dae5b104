"""Distances between two sets of images, each given by the Gaussian statistics of its features."""

from __future__ import annotations

import numpy as np

from components.evaluation.statistics import Float64, GaussianStatistics


def frechet_distance(mean_a: Float64, cov_a: Float64, mean_b: Float64, cov_b: Float64) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians, ‖μa - μb‖² + tr(Σa + Σb - 2 (Σa^½ Σb Σa^½)^½).

    The last trace is the nuclear norm of Σa^½ Σb^½: symmetric in a and b, and sound for singular covariances.

    Args:
        mean_a: [d], as mean_b.
        cov_a: [d, d], symmetric and positive semidefinite up to rounding, as cov_b.

    Returns:
        At least 0.

    Reference: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions".
    """
    overlap = np.linalg.svd(_root(cov_a).T @ _root(cov_b), compute_uv=False).sum()
    shift = mean_a - mean_b
    return max(0.0, float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap))


def _root(covariance: Float64) -> Float64:
    """R with R Rᵀ = covariance; eigenvalues within rounding of 0 are 0."""
    values, vectors = np.linalg.eigh(covariance)
    smallest = values.max() * len(values) * np.finfo(np.float64).eps
    root: Float64 = vectors * np.sqrt(np.where(values > smallest, values, 0.0))
    return root


def frechet(a: GaussianStatistics, b: GaussianStatistics) -> float:
    """frechet_distance of the Gaussians fitted to two sets, at least two images each."""
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
