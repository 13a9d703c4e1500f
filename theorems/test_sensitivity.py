"""What is particular to Theorem 4: both sides of every counterexample as fractions, and the printed proof."""

from dataclasses import replace
from fractions import Fraction
from functools import cached_property

import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftproof.theorems import linalg, rational
from peftproof.theorems.claims import Outcome, Source
from peftproof.theorems.sensitivity import (
    claims_printed,
    claims_printed_difference,
    claims_printed_squares,
    claims_words,
    differences,
)
from peftproof.theorems.sensitivity.instances import rooted, tilts
from peftproof.theorems.sensitivity.instances.compositions import Composed, compositions, scalar_lora
from peftproof.theorems.sensitivity.instances.either import lowest
from peftproof.theorems.sensitivity.instances.products import Products
from peftproof.theorems.sensitivity.instances.rooted import Rooted
from peftproof.theorems.sensitivity.instances.tilted import Tilted, flat, plane, scalar, skewed
from peftproof.theorems.sensitivity.instances.trainings import Training
from peftproof.theorems.verify import complaint, control_evidence, exact_evidence

F = Fraction
MODULES = (claims_printed, claims_printed_difference, claims_printed_squares, claims_words)
CLAIMS = {claim.id: claim for module in MODULES for claim in module.CLAIMS}
COMPARED = [claim for claim in CLAIMS.values() if claim.compare is not None]
FEW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))

SIDES = {
    "T4.8a": {"H = 1, ∇L = 0, ε = 1": (F(-1, 2), "==", F(1, 2))},
    "T4.8b": {
        "a term that no step sees: H = I, P = e₁, ∇L = ε = e₂": (0, "==", 1),
        "the sign: H = P = 1, ∇L = 0, ε = 1": (F(-1, 2), "==", F(1, 2)),
    },
    "T4.41": {"two parameters, ∇L = (1, 2), ε = (3, 4)": (2, "==", 1)},
    "T4.45": {"H = 1, ∇L = 0, ε = 1": (F(-1, 2), "==", F(1, 2))},
    "T4.46": {"H = 2, ∇L = 1, ε = 1": (-1, "==", 1)},
    "T4.47": {"H = ∇L = ε = 1": (2, "==", F(1, 2))},
    "T4.53": {"two parameters, P = e₁": (1, "==", 2)},
    "T4.56": {"H⁻¹ = [[2, 1], [1, 1]], P = e₁, ε = (1, 1)": (1, "==", 0)},
    "T4.57": {
        "H = I, P = e₁, ∇L = 0, ε = e₂": (F(1, 2), "==", F(-1, 2)),
        "H⁻¹ = [[2, 1], [1, 1]], P = e₁, ∇L = 0, ε = (1, 1)": (2, "==", -1),
    },
    "T4.58": {"H = [[1, −1], [−1, 2]], P = ε = e₁": (1, ">=", 2)},
    "T4.60": {"H = 2 I, P = e₁, ∇L = ε = e₂": (F(1, 2), "==", F(-3, 2))},
    "T4.61b": {"H = 2 I, P = e₁, ∇L = ε = e₂": (F(3, 4), "==", F(7, 4))},
    "T4.62b": {"H = I, P = e₁, ∇L = 0, ε = e₂": (F(-1, 8), "<=", F(-1, 4))},
    "T4.63b": {"H = 4 I, P = e₁, ∇L = e₂": (64, "==", 4)},
    "T4.64": {
        "a value for a maximum: H = I, P = e₁, ∇L = e₂, ε = 0": (0, "==", F(1, 2)),
        "a negative value: H = I, P = e₁, ∇L = e₂, ε = −e₂": (F(-3, 2), "==", F(1, 2)),
        "at the maximum itself: H = 4 I, P = e₁, ∇L = e₂, ε = 16 e₂": (32, "==", 62),
    },
    "T4.65": {"H = I/2, ∇L = e₂": (F(1, 8), ">", F(1, 2))},
    "T4.66": {
        "H = I, P = e₁, ∇L = e₂, ε = −e₂": (F(-3, 2), ">", 0),
        "at a stationary point: H = I, P = e₁, ∇L = 0, ε = e₂": (F(-1, 2), ">", 0),
    },
    "T4.a": {"H = I, P = e₁": (1, "<", 1)},
    "T4.b": {
        "one sample (1, 1), two weights": (1, "==", 2),
        "f = w₂w₁x at w = 0, one sample x = y = 1": (1, "==", 2),
    },
    "T4.c": {"H = [[1, −1], [−1, 2]], P = ε = e₁": (1, "==", 2)},
    "T4.d": {
        "H = I, P = e₁, ∇L = 0, ε = e₂": (F(-1, 2), ">", 0),
        "true at ε, false at −ε: H = I, P = e₁, ∇L = ε = e₂": (F(-3, 2), ">", 0),
    },
    "T4.e": {"H = [[1, −1], [−1, 2]], P = ε = e₁": (F(1, 2), "==", 0)},
}


def test_every_line_of_the_proof_has_a_claim():
    halves = {"T4.8a", "T4.8b", *(f"T4.{n}{half}" for n in (61, 62, 63) for half in "ab")}
    lines = {f"T4.{n}" for n in range(39, 67) if n not in (61, 62, 63)}
    assert set(CLAIMS) == halves | lines | {f"T4.{letter}" for letter in "abcde"}


def test_every_refutation_is_written_out_here():
    assert set(SIDES) == {claim.id for claim in COMPARED if claim.judgement.refuted}


@pytest.mark.parametrize("claim", [c for c in COMPARED if c.judgement.refuted], ids=lambda c: c.id)
def test_both_sides_of_the_counterexamples(claim):
    found = {label: claim.judge(instance, Source.EXACT) for label, instance in claim.exact().items()}
    assert {label: (e.lhs, e.relation, e.rhs) for label, e in found.items()} == SIDES[claim.id]
    for evidence in found.values():
        assert evidence.outcome is Outcome.FAILS
        assert evidence.tolerance == 0
        assert all(check.met for check in evidence.assumptions)


@pytest.mark.parametrize("claim", [c for c in COMPARED if c.judgement.stands], ids=lambda c: c.id)
def test_witnesses_hold_and_controls_fail(claim):
    assert not [complaint(claim, e) for e in exact_evidence(claim) if complaint(claim, e)]
    assert control_evidence(claim).outcome is Outcome.FAILS


def test_the_types_that_do_not_fit():
    g, e, step = np.array([1.0, 2.0]), np.array([[3.0], [4.0]]), np.ones(2)
    assert ((g + e) @ step).tolist() == [9, 11], "a row plus a column is a matrix, to NumPy as well"
    one = plane((0, 1), (0, 1))
    with pytest.raises(ValueError, match="mismatch"):
        one.parallel @ one.restricted_inverse


@FEW
@given(st.one_of(tilts.tilts(definite=False)[:2]))
def test_measured_minima_are_what_elimination_of_the_gradient_gives(one):
    """`lowest` completes squares; sympy solves the normal equations."""
    H, u = sympy.Matrix(one.hessian.tolist()), sympy.Matrix(one.tilt.tolist())
    P = sympy.Matrix(one.directions.tolist())
    inverse, inner = H.pinv(), (P.T * H * P).pinv()
    assert one.least_full == one.value_full == F(str(-(u.T * inverse * u)[0] / 2))
    assert one.least_peft == one.value_peft == F(str(-(u.T * P * inner * P.T * u)[0] / 2))
    assert one.least_peft >= one.least_full


def test_what_has_no_minimum_has_minus_infinity_and_violates_an_assumption():
    for one in (scalar(-1, 0, 1), flat((0, 1))):
        assert lowest(one.hessian, one.tilt) is None
        assert float(one.least_full) == -np.inf
        evidence = CLAIMS["T4.44"].judge(one)
        assert evidence.outcome is Outcome.ASSUMPTION_VIOLATED
    assert "1 negative" in CLAIMS["T4.8a"].judge(scalar(-1, 0, 1)).assumptions[0].value
    saddle = Tilted(np.diag([1.0, -2.0]), np.eye(2)[:, :1], np.zeros(2), np.ones(2))
    evidence = CLAIMS["T4.8a"].judge(saddle)
    assert (evidence.outcome, evidence.lhs) == (Outcome.ASSUMPTION_VIOLATED, -np.inf)
    assert evidence.assumptions[0].value == "smallest eigenvalue -2"


def test_longer_directions_violate_an_assumption_of_52():
    evidence = CLAIMS["T4.52"].judge(replace(plane((0, 0), (1, 1)), directions=linalg.exact([[2], [0]])))
    assert evidence.outcome is Outcome.ASSUMPTION_VIOLATED
    assert evidence.lhs == -12


@FEW
@given(st.one_of(tilts.tilts()[:2]))
def test_58_is_reversed_everywhere_and_the_conclusion_fails_on_one_side_everywhere(one):
    assert one.parallel_restricted <= one.parallel_full
    plus, minus = (
        each.printed_peft - each.printed_full for each in (one, one.with_disturbance(-one.disturbance))
    )
    K = one.inverse - one.directions @ one.restricted_inverse @ one.directions.T
    assert plus + minus == -one.disturbance @ K @ one.disturbance <= 0
    assert CLAIMS["T4.d"].compare(one).worst().outcome is Outcome.FAILS


@FEW
@given(tilts.roomy()[0])
def test_66_is_positive_exactly_where_its_reason_says(one):
    positive = one.orthogonal_full < 2 * one.orthogonal_slope
    assert CLAIMS["T4.66"].compare(one).worst().outcome is (Outcome.HOLDS if positive else Outcome.FAILS)
    assert one.orthogonal_slope - one.orthogonal_full / 2 <= one.slope_curved / 2, "what (59) is good for"


@FEW
@given(tilts.small(stationary=True))
def test_45_is_right_of_the_clean_loss_at_a_stationary_point(one):
    clean = one.with_disturbance(0 * one.disturbance)
    assert clean.value(one.step_full) == one.step_energy / 2 == -one.least_full


def test_the_maximum_of_61_is_half_of_what_63_would_make_it():
    H, pi, y = sympy.Integer(2), sympy.Integer(1), sympy.Symbol("y")
    form = pi * sympy.sqrt(H) * y - y**2 / H**2 / 2
    (peak,) = sympy.solve(form.diff(y), y)
    assert sympy.simplify(peak - H ** sympy.Rational(5, 2) * pi) == 0
    assert sympy.simplify(peak**2 / H**2) == 8, "where (63) prints πᵀHπ = 2"
    assert sympy.simplify(form.subs(y, peak)) == 4 == H**3 * pi**2 / 2
    assert form.diff(y, 2) < 0, "concave"


@FEW
@given(rooted.rooteds())
def test_roots_are_roots_and_the_peak_is_the_largest_value(one):
    assert (one.root @ one.root == one.hessian).all()
    values = [one.form(one.peak + step) for step in (*rational.identity(one.d), *one.ends)]
    assert max(values) <= one.form(one.peak) == one.slope_cubed / 2


def test_differences_are_exact_for_quartics():
    x, y = sympy.symbols("x y")
    quartic = x**4 - 3 * x**2 * y**2 + 2 * x * y**3 - 5 * x**3 + x * y - 7 * y + 2
    at = linalg.exact(["1/2", -2])
    place = dict(zip((x, y), at, strict=True))

    def f(point):
        a, b = point
        return a**4 - 3 * a**2 * b**2 + 2 * a * b**3 - 5 * a**3 + a * b - 7 * b + 2

    first = [F(str(quartic.diff(v).subs(place))) for v in (x, y)]
    second = [[F(str(quartic.diff(v, w).subs(place))) for w in (x, y)] for v in (x, y)]
    assert differences.gradient(f, at).tolist() == first
    assert differences.hessian(f, at).tolist() == second


def test_lora_bends_by_its_gradient():
    one = scalar_lora()
    assert one.measured_hessian.tolist() == [[0, 1], [1, 0]]
    assert not one.printed_hessian.any()
    at_rest = Composed(linalg.exact([[1]]), linalg.exact([-2]), linalg.exact([1, 2]), sides=(1, 1, 1))
    assert not at_rest.gradient.any()
    assert (at_rest.measured_hessian == at_rest.printed_hessian).all(), "exact where ∇L = 0"


@FEW
@given(compositions(linear=False))
def test_what_50_lacks_is_the_curvature_of_the_map(one):
    assert (one.measured_hessian == one.printed_hessian + one.second).all()
    assert (one.measured_gradient == one.jacobian.T @ one.gradient).all()


def test_hessians_of_tiny_models():
    one = Training(linalg.exact([[1, 1]]), linalg.exact([3]), linalg.exact([2, -1]))
    assert one.hessian.tolist() == [[1, 1], [1, 1]]
    product = Training(linalg.exact([1]), linalg.exact([1]), linalg.exact([0, 0]))
    assert product.hessian.tolist() == [[0, -1], [-1, 0]]
    assert rational.inertia(product.hessian) == (1, 0, 1)


def floating(one):
    fields = ("hessian", "directions", "gradient", "disturbance")
    return Tilted(*(getattr(one, name).astype(float) for name in fields))


@FEW
@given(st.one_of(tilts.tilts(definite=False)[:2]))
def test_fractions_and_floats_agree(one):
    twin = floating(one)
    names = [
        name for name, member in vars(Products).items() if isinstance(member, cached_property | property)
    ]
    names = [name for name in names if np.isscalar(getattr(twin, name))]
    assert len(names) == 16
    measured = ["least_full", "least_peft", "parallel_gap"]
    names += [*measured, "printed_overlap", "printed_peft", "printed_full"]
    for name in names:
        truth = float(getattr(one, name))
        assert getattr(twin, name) == pytest.approx(truth, rel=1e-9, abs=1e-9), name
    assert twin.restricted_rank == one.restricted_rank
    for name in ("definiteness", "semidefiniteness", "range_condition", "orthonormality", "independence"):
        assert getattr(twin, name).met == getattr(one, name).met, name


@FEW
@given(tilts.structured(kinds=("commuting",)))
def test_what_vanishes_in_fractions_is_not_refuted_by_rounding(one):
    """Where H commutes with the projector (56), (58), T4.c and T4.e have nothing against them."""
    for claim in ("T4.56", "T4.58", "T4.c", "T4.e"):
        assert CLAIMS[claim].judge(one).outcome is Outcome.HOLDS
        assert CLAIMS[claim].judge(floating(one)).outcome in (Outcome.HOLDS, Outcome.INCONCLUSIVE)


def test_forms_need_no_matrix():
    """What an instance of thousands of parameters has to bring: five members, here of H = diag(1 … 50)."""

    class Large(Products):
        is_exact = False
        operations = 64 * 50 * 50
        definiteness = (True, "smallest eigenvalue 1")
        gradient = np.linspace(-1, 1, 50)
        disturbance = np.cos(np.arange(50.0))
        parallel = np.where(np.arange(50) < 5, disturbance, 0)

        def times(self, x):
            return np.arange(1.0, 51) * x

        def solved(self, x):
            return x / np.arange(1.0, 51)

        def answered(self, x):
            return np.where(np.arange(50) < 5, x / np.arange(1.0, 51), 0)

    one = Large()
    dense = Tilted(np.diag(np.arange(1.0, 51)), np.eye(50)[:, :5], one.gradient, one.disturbance)
    for claim in ("T4.55", "T4.56", "T4.58", "T4.59", "T4.60", "T4.61b", "T4.64", "T4.66", "T4.c", "T4.d"):
        mine, theirs = CLAIMS[claim].compare(one), CLAIMS[claim].compare(dense)
        np.testing.assert_allclose(mine.lhs, theirs.lhs, rtol=1e-12)
        np.testing.assert_allclose(mine.rhs, theirs.rhs, rtol=1e-12)
    assert CLAIMS["T4.59"].judge(one).outcome is Outcome.HOLDS
    assert CLAIMS["T4.60"].judge(one).outcome is Outcome.FAILS


def test_snippets_rebuild_what_they_show():
    names = {"Tilted": Tilted, "Rooted": Rooted, "exact": linalg.exact}
    for one in (skewed((1, 2), (1, 1)), rooted.plane(2, 1, 1)):
        again = eval(one.snippet(), names)
        assert (type(again), again.snippet()) == (type(one), one.snippet())
        assert again.mixed_full == one.mixed_full


def test_structured_ones_are_what_they_are_called():
    seen = {}

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(tilts.structured(kinds=tilts.KINDS))
    def collect(one):
        seen.setdefault(one.kind, []).append(one)

    collect()
    assert set(seen) == set(tilts.KINDS)
    for one in seen["commuting"]:
        assert (one.projector @ one.hessian == one.hessian @ one.projector).all()
    assert not any(one.orthogonal.any() for one in seen["parallel disturbance"])
    assert not any(one.parallel.any() for one in seen["orthogonal disturbance"])
    assert all(one.k == one.d for one in seen["as many directions as parameters"])
    assert not any(one.orthonormality for one in seen["long directions"])
    assert not any(one.independence for one in seen["deficient directions"])
    assert not any(one.definiteness or not one.range_condition for one in seen["singular"])
    assert not any(one.range_condition for one in seen["out of range"])
