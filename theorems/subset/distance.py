"""How far an update is from what a method can reach: the distance to Im g, per leaf and in total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...models import tree
from .. import linalg

if TYPE_CHECKING:
    from ...models.methods import Method
    from ...models.network import Network
    from ...models.tree import Params


@dataclass(frozen=True, repr=False)
class Distances:
    r"""The distance of an update Δθ from the closure of Im g.

    Attributes:
        method: the name of the method.
        leaves: rows (leaf, norm, distance, relative, touched), one per leaf of θ.
        norm: ‖Δθ‖_F.
        total: $\mathrm{dist}(\Delta\theta, \mathrm{Im}\,g) = \inf_\Phi \|\Delta\theta - g(\Phi)\|_F$.
        exact: whether the projection is proved to be a nearest point; otherwise `total` is an upper estimate.
        nearest: the nearest point that was found, a tree like θ.
    """

    method: str
    leaves: tuple[dict[str, Any], ...]
    norm: float
    total: float
    exact: bool
    nearest: Params

    @property
    def relative(self) -> float:
        """Dist / ‖Δθ‖, between 0 (reached) and 1 (nothing of it is reached); 0 for a zero update."""
        return self.total / self.norm if self.norm else 0.0

    def __repr__(self) -> str:
        """Show the total."""
        estimate = "" if self.exact else "at most "
        return f"Distances({self.method}: {estimate}{self.relative:.3g} of the norm {self.norm:.3g})"


def distances(method: Method, network: Network, update: Params) -> Distances:
    r"""Measure how far an update lies from the image of a method's map g.

    $$\mathrm{dist}(\Delta, \mathrm{Im}\,g)^2 = \sum_{\text{leaves}} \|\Delta_l - \hat\Delta_l\|_F^2,$$

    with the method's own projection on the leaves it touches and 0 on the others.

    Args:
        method: any method with a map g.
        network: the base network, float64.
        update: Δθ, a tree like θ, float64; of a full fine-tuning, say.

    Returns:
        A `Distances`.

    Raises:
        ValueError: another structure than θ, not float64, NaN, or a method without a map g.

    Source: Eckart and Young 1936 for LoRA, Van Loan and Pitsianis 1993 for Kronecker products, Schönemann
    1966 for rotations; each method's `image` says which.
    """
    tree.check_like(update, network.params, "update")
    flat = {path: np.asarray(leaf) for path, leaf in tree.paths(update).items()}
    linalg.require_judging_precision("update", *flat.values())
    made, image = method.reparameterize(network), method.image(network)
    touched = made.touched()
    near = {path: np.zeros_like(leaf) for path, leaf in flat.items()}
    near |= {path: np.asarray(leaf) for path, leaf in image.project({p: flat[p] for p in touched}).items()}
    rows = []
    for path, leaf in flat.items():
        norm, distance = float(np.linalg.norm(leaf)), float(np.linalg.norm(leaf - near[path]))
        rows.append(
            {
                "leaf": path,
                "norm": norm,
                "distance": distance,
                "relative": distance / norm if norm else 0.0,
                "touched": path in touched,
            }
        )
    norm, total = (float(np.sqrt(sum(row[key] ** 2 for row in rows))) for key in ("norm", "distance"))
    return Distances(method.name, tuple(rows), norm, total, image.exact, tree.from_paths(near))


def within(method: Method, network: Network, update: Params, share: float) -> bool:
    """Whether an update lies within `share` of its norm of Im g."""
    return distances(method, network, update).relative <= share
