"""Gaussian process regression on points of a search space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from razorlite.search.embedding import Embedding

_JITTER = 1e-6
_STEPS = 30  # of the optimiser
_BOUND = 9.0  # of logarithms of hyperparameters
_SHARED = ("additive", "product", "linear", "noise")
_MEANS = (0.3, 1.0, 0.3, 1e-3)  # where each of these is expected, and how many e-folds around it
_SPREADS = (1.5, 1.0, 1.5, 2.0)


class GaussianProcess:
    """Predicts scores with their uncertainty from those that are known.

    The covariance is the sum of a constant, of the share of dimensions in which two points have the
    same value (effects that add up), of a product over dimensions, orders and costs (interactions),
    and of a linear trend along the costs. All amounts, a weight for each group of the embedding and
    the noise maximise the marginal likelihood times log-normal priors.

    Gaussian Processes for Machine Learning, http://gaussianprocess.org/gpml, algorithm 2.1 and
    equation 5.9.

    Args:
        embedding: points to vectors.

    Attributes:
        parameters: logarithms of the hyperparameters, (4 + groups,); as expected before a fit.
    """

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding
        self._groups, self._kinds, self._costs = embedding.groups, embedding.kinds, embedding.costs
        self._means, self._spreads = _priors(embedding)
        self.parameters = self._means.copy()
        self._known = np.empty((0, len(self._groups)))
        self._factor, self._weights = np.empty((0, 0)), np.empty(0)

    def fit(self, points: np.ndarray, values: np.ndarray) -> None:
        """Choose the hyperparameters.

        Args:
            points: (N, D) indices.
            values: (N,) scores, standardised.
        """
        vectors = self.embedding(points)
        found = minimize(
            self._objective,
            self.parameters,
            args=(values, vectors, self._distances(vectors)),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _STEPS},
            bounds=[(-_BOUND, _BOUND)] * len(self.parameters),
        )
        self.parameters = found.x

    def condition(self, points: np.ndarray, values: np.ndarray) -> None:
        """Take (N, D) points and their (N,) scores as what is known."""
        self._known = self.embedding(points)
        covariance = self._covariance(self._known, self._known)
        covariance[np.diag_indices(len(values))] += self._noise(self.parameters)
        self._factor = cholesky(covariance, lower=True)
        self._weights = cho_solve((self._factor, True), values)

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the scores of (N, D) points, (N,) each."""
        vectors = self.embedding(points)
        shared = self._covariance(vectors, self._known)
        rest = solve_triangular(self._factor, shared.T, lower=True)
        variance = self._own_variance(vectors) - np.square(rest).sum(axis=0)
        return shared @ self._weights, np.sqrt(np.maximum(variance, 1e-12))

    def _covariance(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return (N, M) covariances of (N, Q) and (M, Q) vectors."""
        additive, product, linear, _ = np.exp(self.parameters[:4])
        scale = np.exp(0.5 * self.parameters[4:])[self._groups]
        apart = _squared(first * scale, second * scale)
        different = _squared(first[:, self._kinds], second[:, self._kinds])
        trend = first[:, self._costs] @ second[:, self._costs].T
        alike = 1 - different / max(1, self._dimensions)
        covariance: np.ndarray = 1 + additive * alike + product * np.exp(-apart) + linear * trend
        return covariance

    def _own_variance(self, vectors: np.ndarray) -> np.ndarray:
        additive, product, linear, _ = np.exp(self.parameters[:4])
        trend = np.square(vectors[:, self._costs]).sum(axis=1)
        variance: np.ndarray = 1 + additive + product + linear * trend
        return variance

    @property
    def _dimensions(self) -> int:
        return len(self.embedding.space.dimensions)

    def _distances(self, vectors: np.ndarray) -> np.ndarray:
        """Return (G, N, N), the squared distances in each group of columns."""
        groups = range(len(self._means) - 4)
        parts = [vectors[:, self._groups == group] for group in groups]
        return np.array([_squared(part, part) for part in parts])

    def _objective(
        self, parameters: np.ndarray, values: np.ndarray, vectors: np.ndarray, apart: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the negative logarithm of likelihood times prior, and its gradient."""
        off = (parameters - self._means) / self._spreads
        parts = self._parts(parameters, vectors, apart)
        covariance = 1 + np.sum(parts, axis=0)
        covariance[np.diag_indices(len(values))] += self._noise(parameters)
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10, np.zeros_like(parameters)
        weights = cho_solve((factor, True), values)
        slope = cho_solve((factor, True), np.eye(len(values))) - np.outer(weights, weights)
        loss = 0.5 * values @ weights + np.log(np.diag(factor)).sum() + 0.5 * off @ off
        gradient = 0.5 * self._gradient(parameters, parts, slope, apart)
        return float(loss), gradient + off / self._spreads

    def _parts(
        self, parameters: np.ndarray, vectors: np.ndarray, apart: np.ndarray
    ) -> list[np.ndarray]:
        """Return the (N, N) terms of the covariance in the order of `_SHARED`."""
        additive, product, linear, _ = np.exp(parameters[:4])
        costs, count = vectors[:, self._costs], self._dimensions
        alike = 1 - apart[:count].sum(axis=0) / max(1, count)
        near = np.exp(-np.tensordot(np.exp(parameters[4:]), apart, axes=1))
        return [additive * alike, product * near, linear * (costs @ costs.T)]

    def _gradient(
        self,
        parameters: np.ndarray,
        parts: Sequence[np.ndarray],
        slope: np.ndarray,
        apart: np.ndarray,
    ) -> np.ndarray:
        """Return twice the likelihood's derivatives by the logarithms of the hyperparameters."""
        shared = [float((slope * part).sum()) for part in parts]
        noise = float(np.exp(parameters[3]) * np.trace(slope))
        weights = -np.exp(parameters[4:]) * np.tensordot(apart, slope * parts[1], axes=2)
        return np.concatenate([[*shared, noise], weights])

    @staticmethod
    def _noise(parameters: np.ndarray) -> float:
        return float(np.exp(parameters[3])) + _JITTER


def _priors(embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations of the hyperparameters' logarithms."""
    dimensions, tables = len(embedding.space.dimensions), len(embedding.tables)
    kinds = np.full(tables, 1.5 / max(1, dimensions))
    costs = np.full(len(embedding.centre), 0.1)
    means = np.log(np.concatenate([_MEANS, kinds, costs]))
    spreads = np.concatenate([_SPREADS, np.ones(tables), np.full(len(costs), 1.5)])
    return means, spreads


def _squared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the (N, M) squared distances of (N, Q) and (M, Q) vectors."""
    lengths = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)
    distances: np.ndarray = np.maximum(lengths - 2 * first @ second.T, 0.0)
    return distances
