r"""Re-train a network and its methods on disturbed data, and compare what is left with what was predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ....models.disturbances import DISTURBANCES, Disturbance
from ....models.methods import Method
from ....models.methods import method as find_method
from ....models.tasks import Split, Splits, Task
from ...curvature import BUDGET
from .results import Readaptations
from .study import Study
from .tangent import linear

if TYPE_CHECKING:
    from ....models.cache import Cache
    from ....models.network import Network
    from ....models.tree import Params

T = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Shares of the disturbed data: from where the quadratic model is right to the disturbed data alone."""
SHIFTS = tuple(DISTURBANCES[stem] for stem in ("noise", "rotation", "blur", "label-noise", "class-imbalance"))
METHODS = ("head", "lora-fa-r4", "bitfit", "ia3", "mask-5%")
RIDGE = 1e-3


def readapt(
    network: Network,
    data: Task | Splits | Split,
    disturbances: Sequence[Disturbance] = SHIFTS,
    methods: Sequence[str | Method] = METHODS,
    *,
    ridge: float = RIDGE,
    t: Sequence[float] = T,
    start: Params | None = None,
    seed: int = 0,
    memory: int = BUDGET,
    cache: Cache | None = None,
    progress: Callable[[str], None] | None = None,
) -> Readaptations:
    r"""Follow full fine-tuning and linear methods from D to D′, and compare their gap with the residual form.

    With $F(\theta) = L_D(\theta) + \frac\lambda2\|\theta-\theta_0\|^2$, first full fine-tuning comes to rest
    at θ*.  Then everything is re-trained from there on $F_t = (1-t)F + tF'$: all parameters, and the image
    of each method, θ* + g(Φ).  For t → 0

    $$\min_\Phi F_t(\theta^*+g(\Phi)) - \min_\theta F_t(\theta)
    = t^2\,\tfrac12\|(I-Q)H^{-1/2}u\|^2 + O(t^3),$$

    with $H = \nabla^2F(\theta^*)$, $u = \nabla L_{D'}-\nabla L_D$ and Q as in `residual_gap`.  Each minimum
    starts from the one before it.  Where a method comes lower than full fine-tuning did, this goes on from
    there: it can always follow.

    Args:
        network: f and θ₀, in float64; its activations should be smooth.
        data: D, or a task or splits, whose training examples are D.
        disturbances: each makes D′ of D, with the same number of examples.
        methods: names or methods with a linear g: frozen-A LoRA, the head, biases, scales, masks.  LoRA
            itself is outside of the model: at B = 0 what it reaches is a cone, not a subspace.
        ridge: λ; large enough for the Hessian at rest to be positive definite, which is proved.
        t: ascending, in (0, 1].
        start: parameters to start from, such as fully fine-tuned ones; θ₀ if None.
        seed: of the disturbances.
        memory: bytes that the dense Hessian may take.
        cache: keeps every minimum as soon as it is known, so that an interrupted run goes on where it was.
        progress: called with a line of text now and then.

    Returns:
        A `Readaptations`: by method and disturbance, with flat `records` and a `table`.

    Raises:
        ValueError: no disturbance or no method, t or ridge out of range, a method whose g is not linear, a
            Hessian that is not proved to be definite, and all that `stationary` and the disturbances refuse.

    Source: T4.R33.  The two sides are equal in the limit and nowhere else, unless losses are quadratic.
    """
    disturbances = _some("disturbances", disturbances)
    chosen = [one if isinstance(one, Method) else find_method(one) for one in _some("methods", methods)]
    split = _split(data)
    values = _checked(t, ridge)
    width = max([_size(one, network) for one in chosen], default=1)
    study = Study(
        network=network,
        split=split,
        start=network.params if start is None else start,
        ridge=float(ridge),
        t=values,
        seed=seed,
        width=width,
        cache=cache,
        say=progress or (lambda _: None),
        memory=memory,
    )
    study.require_definite()
    return Readaptations(
        network=network.name,
        d=network.d,
        ridge=study.ridge,
        definiteness=study.rest.definiteness,
        stationarity=study.rest.stationarity,
        found=tuple(study.pair(method, shift) for method in chosen for shift in disturbances),
    )


def _some(name: str, given: Sequence[Any]) -> tuple[Any, ...]:
    if not (found := tuple(given)):
        raise ValueError(f"{name}: got none, needs at least one; leave the argument out for the usual ones")
    return found


def _split(data: Task | Splits | Split) -> Split:
    if isinstance(data, Task):
        data = data.new
    return data.train if isinstance(data, Splits) else data


def _checked(t: Sequence[float], ridge: float) -> tuple[float, ...]:
    values = tuple(float(one) for one in t)
    if len(values) < 3 or list(values) != sorted(set(values)) or values[0] <= 0 or values[-1] > 1:
        raise ValueError(
            f"t: got {tuple(t)}, needs three or more ascending numbers in (0, 1], as (1e-4, 1e-2, 1)"
        )
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge: got {ridge}, needs a positive number: without it a minimum need not exist")
    return values


def _size(method: Method, network: Network) -> int:
    """The number of parameters of a linear method.

    Raises:
        ValueError: another one.
    """
    if not linear(method, network):
        raise ValueError(
            f"methods: {method.name!r} has no linear map g on this network, so that no subspace stands for "
            f"it; use methods such as {', '.join(METHODS)}, and for LoRA own_optimum"
        )
    return method.reparameterize(network).k
