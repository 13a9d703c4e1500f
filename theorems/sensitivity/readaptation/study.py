r"""The work behind `readapt`: a stationary point, minima followed along t, methods beside them; kept on disk.

Numbers and small arrays are kept, one entry for the stationary point, one for full fine-tuning under a
disturbance, one for a method under it: what was interrupted goes on from there.  The dense Hessian is not
kept; it is formed again where a new entry needs it.  Verdicts are never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ....models import derivatives
from ....models.cache import Json, digest, environment
from ....models.derivatives import NetworkLoss
from ....models.finetuning import code_of, settings_of
from ....models.methods import Full
from ... import memo
from ...curvature import BUDGET
from ...curvature.network import objective
from ..prepared import Dense
from ..reduction import Reduced, reduced
from ..roots import CUTOFF, span
from . import paths, tangent
from .keeping import Found, kept
from .own_optima import OwnOptimum, OwnReadaptation, own_optimum
from .paths import Coordinates, Mixture, Trace
from .results import Forms, Readaptation, lowered
from .stationary import Hessian, Say, Stationary, stationary

if TYPE_CHECKING:
    from ....models.cache import Cache
    from ....models.disturbances import Disturbance
    from ....models.methods import Method
    from ....models.methods.base import Phi
    from ....models.network import Network
    from ....models.tasks import Split
    from ....models.tree import Params

LARGEST = 200
"""Methods with at most so many parameters keep their tilted quadratic, as a small one."""
_NUMBERS = ("value", "gradient_norm", "decrement", "lower", "upper", "moved")
_SMALL = ("hessian", "directions", "disturbance")


@dataclass(frozen=True, eq=False)
class Study:
    """One network, one D, and everything that is asked of it.

    Attributes:
        network: f and θ₀, in float64.
        split: D.
        start: parameters to start from.
        ridge: λ.
        t: ascending.
        seed: of the disturbances.
        width: columns that the coordinates of methods are filled up to.
        cache: where to keep what was measured; None to keep nothing.
        say: called with a line of text now and then.
        memory: bytes that the Hessian may take.
        known: full fine-tuning by the name of the disturbance, as far as it has been asked for.
    """

    network: Network
    split: Split
    start: Params
    ridge: float
    t: tuple[float, ...]
    seed: int
    width: int
    cache: Cache | None
    say: Say
    memory: int = BUDGET
    known: dict[str, tuple[Trace, np.ndarray]] = field(default_factory=dict)

    # What is kept, and under which key

    @cached_property
    def _key(self) -> Json:
        return {
            "kind": "re-adaptation",
            "architecture": repr(self.network.architecture),
            "code": code_of(self.network, Full(), self.split.x.shape[1:]),
            "theta0": digest(self.network.params),
            "start": digest(self.start),
            "split": digest({"x": self.split.x, "y": self.split.y}),
            "ridge": self.ridge,
            "numbers": list(_NUMBERS),
            "environment": environment(),
        }

    def _kept(self, more: Json, compute: Callable[[], Found]) -> Found:
        return kept(self.cache, self._key | more, compute)

    def _along(self, shift: Disturbance) -> Json:
        second = self.second(shift)
        return {
            "disturbed": digest({"x": second.x, "y": second.y}),
            "t": list(self.t),
            "accuracy": paths.ACCURACY,
        }

    # The stationary point

    @cached_property
    def rest(self) -> Stationary:
        """θ*, where full fine-tuning on D has come to rest."""
        fresh: list[Stationary] = []

        def compute() -> Found:
            given = {"ridge": self.ridge, "start": self.start, "memory": self.memory, "progress": self.say}
            fresh.append(stationary(self.network, self.split, **given))
            numbers = np.array([getattr(fresh[0], name) for name in _NUMBERS])  # infinities among them
            return {"theta": fresh[0].theta, "numbers": numbers}, {"evaluations": fresh[0].evaluations}

        arrays, facts = self._kept({"what": "stationary point"}, compute)
        if fresh:
            return fresh[0]
        theta = arrays["theta"]
        examples = objective(self.network, self.split, None, None, self.ridge)[2]
        H = Hessian(self.network, self.split, theta, self.ridge, self.memory)
        numbers = dict(zip(_NUMBERS, map(float, arrays["numbers"]), strict=True))
        return Stationary(
            self.network, NetworkLoss.of(self.network), examples, theta, **numbers, **facts, hessian=H
        )

    def require_definite(self) -> None:
        """Raise if the quadratic model has no minimum.

        Raises:
            ValueError: the Hessian is not proved to be definite.
        """
        if not self.rest.definiteness:
            raise ValueError(
                f"ridge: got {self.ridge:g}, with which the Hessian at rest is not positive definite "
                f"({self.rest.definiteness.shown}), so the quadratic model has no minimum; raise the ridge"
            )

    @cached_property
    def here(self) -> Network:
        """The network at θ*, to which methods are applied."""
        return self.network.with_params(self.rest.loss.params(jnp.asarray(self.rest.theta)))

    # Full fine-tuning along t

    def second(self, shift: Disturbance) -> Split:
        """D′."""
        return shift(self.split, self.seed)

    def mixture(self, shift: Disturbance) -> Mixture:
        """The objective along t."""
        first = self.rest.examples
        second = derivatives.examples(self.second(shift), np.asarray(first.centre), weight_decay=self.ridge)
        return Mixture(self.rest.loss, first, second, self.t)

    def full(self, shift: Disturbance) -> tuple[Trace, Float[np.ndarray, " d"]]:
        """Full fine-tuning under a disturbance, and the tilt u = ∇L_{D′} − ∇L_D at θ*."""

        def compute() -> Found:
            self.say(f"{shift.name}: full fine-tuning along t")
            mixture = self.mixture(shift)
            u = mixture.tilt(self.rest.theta)
            where = self._everything
            trace, _ = paths.follow(mixture, where, where.tilt(u))
            return {"u": u, **trace.arrays}, {"quadratic": trace.quadratic}

        if shift.name not in self.known:
            arrays, facts = self._kept(self._along(shift) | {"what": "full"}, compute)
            self.known[shift.name] = Trace.of(arrays, facts["quadratic"]), arrays["u"]
        return self.known[shift.name]

    @cached_property
    def _everything(self) -> Coordinates:
        return paths.everything(self.rest.theta, self.rest.hessian.root)

    # A method beside it

    def pair(self, method: Method, shift: Disturbance) -> Readaptation:
        """A method under a disturbance.

        Raises:
            ValueError: a Hessian that is not definite.
        """
        self.require_definite()
        full, u = self.full(shift)

        def compute() -> Found:
            return self._pair(method, shift, full, u)

        more = self._along(shift) | {"what": "method", "method": settings_of(method)}
        arrays, facts = self._kept(more, compute)
        return _readaptation(method, shift, full, self.rest.decrement, arrays, facts)

    def _pair(self, method: Method, shift: Disturbance, full: Trace, u: np.ndarray) -> Found:
        self.say(f"{shift.name}: {method.name} along t")
        P, dense, where = self._directions(method)
        mixture = self.mixture(shift)
        trace, points = paths.follow(mixture, where, where.tilt(u), full.base)
        lower = {}
        for i in np.flatnonzero(trace.change < full.change):
            found = paths.lowered(mixture, self.t[i], points[i], full.base[i])
            lower[f"lower {i}"] = np.array(found.value - full.base[i])
        gap, k = dense.gap(u), P.shape[1]
        facts = {"k": k, "quadratic": trace.quadratic, "predicted": gap.value, "error": gap.error}
        facts |= vars(tangent.forms(dense, u))
        arrays = {**trace.arrays, **lower}
        if k <= LARGEST:
            reduced = tangent.small(dense, P, u)
            arrays |= {f"small {name}": getattr(reduced, name) for name in _SMALL}
            facts["of"] = reduced.of
        return arrays, facts

    def indefinite(self, method: Method, shift: Disturbance) -> Reduced:
        """The tilted quadratic of a network whose Hessian is not definite, with the direction that shows it.

        Nothing follows from it but that.
        """
        H = self.rest.hessian
        matrix, u = H.curvature.matrix(), self.mixture(shift).tilt(self.rest.theta)
        P = tangent.differential(method.reparameterize(self.here))
        B = span(P, CUTOFF).basis
        gradient = gradient_at(self.rest)
        return reduced(lambda D: matrix @ D, B, matrix @ B, P, gradient, u, (H.definite.vector,))

    # A method from its own optimum

    def own(self, method: Method, phi: Phi, shift: Disturbance) -> OwnReadaptation:
        """A method that came to rest by itself, under a disturbance.

        Args:
            method: any with a map g.
            phi: its trained Φ, from which it comes to rest.
            shift: the disturbance.

        Raises:
            ValueError: a Hessian of the network that is not definite.
        """
        self.require_definite()
        full, _ = self.full(shift)
        rest = self.own_rest(method, phi)
        more = {"method": settings_of(method), "phi": digest(phi)}

        def compute() -> Found:
            self.say(f"{shift.name}: {method.name} along t from its own optimum")
            there = self._own_optimum(method, phi)
            where, u = there.coordinates(), self.mixture(shift).tilt(there.theta)
            trace, _ = paths.follow(self.mixture(shift), where, where.tilt(u))
            return trace.arrays, {"quadratic": trace.quadratic, "printed": there.printed(u)}

        arrays, facts = self._kept(self._along(shift) | more | {"what": "own"}, compute)
        return OwnReadaptation(
            method=method.name,
            disturbance=shift.name,
            k=rest["k"],
            full=full,
            own=Trace.of(arrays, facts["quadratic"]),
            values=(self.rest.value, rest["value"]),
            printed=facts["printed"],
            start=rest["decrement"],
            off=rest["off"],
        )

    def own_rest(self, method: Method, phi: Phi) -> Json:
        """What is known of the own optimum of a method: plain numbers, and two facts as pairs."""

        def compute() -> Found:
            self.say(f"{method.name} comes to rest at its own optimum")
            there = self._own_optimum(method, phi)
            facts = {
                name: getattr(there, name) for name in ("value", "decrement", "off", "cut", "least", "next")
            }
            facts |= {name: list(getattr(there, name)) for name in ("stationarity", "definiteness")}
            return {"phi": there.phi}, facts | {"k": len(there.phi)}

        more = {"what": "own optimum", "method": settings_of(method), "phi": digest(phi)}
        return self._kept(more, compute)[1]

    def _own_optimum(self, method: Method, phi: Phi) -> OwnOptimum:
        """Of the last method that was asked for."""
        return _own_optimum((self, method, digest(phi), phi))

    def _directions(self, method: Method) -> tuple[np.ndarray, Dense, Coordinates]:
        """Dg, what is factored of it, and the coordinates; of the last method that was asked for."""
        return _directions((self, method))


def _own(given: tuple[Study, Method, str, Phi]) -> OwnOptimum:
    study, method, _, phi = given
    return own_optimum(study.network, study.split, method, phi, ridge=study.ridge)


_own_optimum = memo.latest(_own, key=lambda given: given[:3])


@memo.latest
def _directions(given: tuple[Study, Method]) -> tuple[np.ndarray, Dense, Coordinates]:
    study, method = given
    P = tangent.differential(method.reparameterize(study.here))
    dense = tangent.factored(P, study.rest.hessian.root)
    return P, dense, paths.subspace(study.rest.theta, dense, study.width)


def _readaptation(
    method: Method, shift: Disturbance, full: Trace, start: float, arrays: dict[str, np.ndarray], facts: Json
) -> Readaptation:
    small = None
    if "small hessian" in arrays:
        given = {name: arrays[f"small {name}"] for name in _SMALL}
        small = Reduced(**given, gradient=0 * given["disturbance"], of=facts["of"])
    made = Readaptation(
        method=method.name,
        disturbance=shift.name,
        k=facts["k"],
        full=full,
        peft=Trace.of(arrays, facts["quadratic"]),
        predicted=facts["predicted"],
        error=facts["error"],
        start=start,
        forms=Forms(**{f.name: facts[f.name] for f in fields(Forms)}),
        reduced=small,
    )
    changes = {int(n.split()[1]): float(v) for n, v in arrays.items() if n.startswith("lower ")}
    return lowered(made, changes) if changes else made


def gradient_at(rest: Stationary) -> Float[np.ndarray, " d"]:
    """∇F at rest."""
    return np.asarray(derivatives.value_and_gradient(rest.loss, jnp.asarray(rest.theta), rest.examples)[1])
