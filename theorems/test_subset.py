"""Theorem 1: what is particular to it; `test_ledger.py` has what every claim must pass."""

import dataclasses
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from peftproof.models import tree
from peftproof.models.methods import LTSFT, SUPPORT, BitFit, Full, LoRA, Mask, Prefix, SerialAdapter, method
from peftproof.models.mlp import MLPConfig, mlp, mlp_from_arrays
from peftproof.models.transformer import TransformerConfig, transformer
from peftproof.theorems import subset
from peftproof.theorems.claims import Outcome
from peftproof.theorems.ledger import ledger
from peftproof.theorems.search import falsify
from peftproof.theorems.subset import curves, plots
from peftproof.theorems.subset.families import ProductNetwork
from peftproof.theorems.subset.outside import Adapter, ZeroPrefix
from peftproof.theorems.subset.outside import Prefix as OnePrefix
from peftproof.theorems.subset.singular import Cusp, DenseCurve
from peftproof.theorems.subset.widths import ReluNetwork
from peftproof.theorems.verify import observed_evidence

CLAIMS = {claim.id: claim for claim in subset.CLAIMS}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def network():
    """A perceptron whose parameters are all off their initial values."""
    made, rng = mlp(MLPConfig((6, 8, 4)), KEY, jnp.float64), np.random.default_rng(0)
    return made.with_params(jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), made.params))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(1).normal(size=(60, 6))


@pytest.fixture(scope="module")
def update(network):
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), network.params)


# --- the counterexamples, by hand --------------------------------------------------------------------------


def test_values_of_the_functions_that_leave_the_family():
    assert (Adapter(1, 1, 1).f(1), Adapter(1, 1, 1).f(-1)) == (2, -1)
    assert [OnePrefix(1, 1).f(n) for n in (0, 1, 2)] == [Fraction(1, 2), Fraction(2, 3), Fraction(4, 5)]
    assert OnePrefix(1, 1).functional == Fraction(-1, 30)
    assert [ZeroPrefix(1, 1).f(n) / n for n in (1, 2)] == [Fraction(2, 3), Fraction(16, 17)]


def test_the_node_has_two_tangents_and_the_cusp_no_velocity():
    t = curves.T
    g = (t**2 - 1, t**3 - t)
    tangents = sympy.Matrix([[sympy.diff(part, t).subs(t, at) for part in g] for at in (1, -1)])
    assert [part.subs(t, at) for part in g for at in (1, -1)] == [0, 0, 0, 0]
    assert abs(tangents.det()) == 8
    assert curves.Crossing(-1, 1, (1, 0), (0, 1)).immersion[0]
    assert not curves.Crossing(-1, 1, (0, 0), (1, 0)).immersion[0], "a line passed twice stops in between"


def test_the_cusp_lies_on_one_side_and_the_flat_cubic_on_both():
    t = np.linspace(-1e-3, 1e-3, 8)
    for cusp, sides in ((Cusp(2, 3), 1), (Cusp(3, 4), 2), (Cusp(1, 2), 2)):
        points = np.stack([t**cusp.a, t**cusp.b])
        assert len(np.unique(np.sign(points[0]))) == sides
        assert np.abs(points[1] / points[0]).max() < 2e-3, "the directions are those of the first axis"
        assert cusp.dimension == sides - 1


def test_the_dense_curve_comes_nearer_and_nearer_to_everything():
    target = (Fraction(314159, 100000), Fraction(-27182, 10000))
    found = [DenseCurve(target, n).missed for n in (4, 40, 400, 4000)]
    assert all(
        distance <= Fraction(1, 2 * n * n) for distance, n in zip(found, (4, 40, 400, 4000), strict=True)
    )
    naive = min(
        (target[0] - Fraction(i, 4)) ** 2 + (target[1] - Fraction(j, 4)) ** 2
        for i in range(-16, 17)
        for j in range(-16, 17)
    )
    assert found[0] == naive > 0


def test_hilberts_curve_is_connected_nested_and_fills_the_square():
    for level in range(1, 6):
        boxes = [curves.hilbert(m, level) for m in range(4**level)]
        assert len(set(boxes)) == 4**level
        assert all(
            sum(abs(a - b) for a, b in zip(*pair, strict=True)) == 1 for pair in itertools.pairwise(boxes)
        )
        finer = [curves.hilbert(m, level + 1) for m in range(4 ** (level + 1))]
        assert all(tuple(c // 2 for c in box) == boxes[m // 4] for m, box in enumerate(finer))


def test_box_counts_are_those_of_exact_arithmetic():
    curve = curves.Polynomial((1, -2, 3), (0, 3, -3, 2), 10)
    steps = 4 * 10 * (curve.lipschitz + 1)
    values = [
        tuple(
            sum(a * Fraction(i, steps) ** j for j, a in enumerate(part)) * 10 // 1
            for part in (curve.x, curve.y)
        )
        for i in range(steps + 1)
    ]
    assert curve.met == len(set(values))
    assert curve.met > 10, "a vacuous count would hardly leave the start"


def test_search_shrinks_to_the_two_factors_of_the_smallest_product():
    assert falsify(CLAIMS["T1.d"]).instance == ProductNetwork((0, 1), (0,))


def test_single_draws_fall_below_the_functional_dimension():
    one, many = ReluNetwork((1, 2, 1), 1, seed=2), ReluNetwork((1, 2, 1), 12)
    assert one.rho < many.rho == many.known == 5


# --- distances ---------------------------------------------------------------------------------------------


def test_distances_add_up_and_zero_lies_in_every_image(network, update):
    for row in SUPPORT:
        if not row.dimension or row.stem in ("peru-r", "oft-b"):
            continue
        chosen = method(row.example)
        chosen = chosen.resolve(network, update) if hasattr(chosen, "resolve") else chosen
        if row.stem in ("hira-r", "loha-r", "dora-r", "vera-r", "lokr-r", "compacter-n"):
            continue  # by descent, see the tests of methods
        found = subset.distances(chosen, network, update)
        assert found.total**2 == pytest.approx(sum(leaf["distance"] ** 2 for leaf in found.leaves))
        assert 0 <= found.relative <= 1
        zero = jax.tree.map(np.zeros_like, network.params)
        assert subset.distances(chosen, network, zero).relative == 0
    assert subset.distances(Full(), network, update).total == 0


def test_distance_of_lora_is_the_tail_of_the_spectrum(network, update):
    found = subset.distances(LoRA(2), network, update)
    for leaf in found.leaves:
        matrix = update["layers"][leaf["leaf"].split("/")[1]][leaf["leaf"].split("/")[2]]
        tail = np.linalg.svd(matrix, compute_uv=False)[2:] if matrix.ndim == 2 else matrix
        assert leaf["distance"] == pytest.approx(np.linalg.norm(tail))
        assert leaf["touched"] == leaf["leaf"].endswith("kernel")
    assert "LoRA" not in repr(found)
    assert repr(found).startswith("Distances(lora-r2: 0.")


def test_distances_refuse_what_they_cannot_judge(network, update):
    with pytest.raises(ValueError, match="update: missing"):
        subset.distances(LoRA(2), network, {})
    with pytest.raises(ValueError, match="float64"):
        subset.distances(LoRA(2), network, jax.tree.map(np.float32, update))
    with pytest.raises(ValueError, match="no map g"):
        subset.distances(SerialAdapter(2), network, update)
    with pytest.raises(ValueError, match="chooses its map g"):
        subset.distances(LTSFT(), network, update)


# --- describe and verdict ----------------------------------------------------------------------------------


def test_describe_counts_and_says_where_g_is_an_immersion(network):
    start = subset.describe(LoRA(2), network)
    assert (start.k, start.d, start.dimension, start.gauge) == (2 * 14 + 2 * 12, 92, 24 + 20, 8)
    assert (start.rank.rank, start.immersion, start.injective_up_to_gauge) == (2 * 8 + 2 * 4, False, False)
    phi = jax.tree.map(lambda leaf: leaf + 0.5, LoRA(2).reparameterize(network).init(KEY))
    phi = jax.tree.map(lambda leaf: leaf + np.random.default_rng(0).normal(size=leaf.shape), phi)
    generic = subset.describe(LoRA(2), network, phi)
    assert (generic.rank.rank, generic.immersion, generic.injective_up_to_gauge) == (44, False, True)
    linear = subset.describe(BitFit(), network)
    assert (linear.linear, linear.immersion, linear.gauge, linear.share) == (True, True, 0, 12 / 92)
    assert max(map(len, repr(generic).splitlines())) <= 79


def test_describe_says_of_an_extension_that_there_is_no_g(network):
    found = subset.describe(SerialAdapter(2), network)
    assert not found.weight_space
    assert found.dimension is found.gauge is found.rank is None
    assert "equation 4 does not cover it" in repr(found)


def test_verdict_is_strict_with_a_witness_that_phi_cannot_follow(network, x):
    found = subset.verdict(network, LoRA(1), x)
    assert found.relation is subset.Relation.STRICTLY_INSIDE
    assert found.reach == 13 + 11 < found.functional.rank
    assert found.effect > 0.999
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(found.witness)))
    assert norm == pytest.approx(1)
    # By the naive oracle: on the first inputs, as many as Φ needs, no direction of Φ moves the outputs alike.
    made = LoRA(1).reparameterize(network)
    phi = made.init(KEY)

    def outputs(theta):
        return network.apply(theta, x[: -(-(made.k + 8) // 4)]).ravel()

    along = jax.jvp(outputs, (network.params,), (jax.tree.map(jnp.asarray, found.witness),))[1]
    tangent = jax.jacfwd(lambda p: outputs(made.apply(network.params, p)))(phi)
    for leaf in jax.tree.leaves(tangent):
        span = np.asarray(leaf).reshape(len(along), -1)
        assert np.linalg.norm(span.T @ along) <= 1e-8 * np.linalg.norm(span) * np.linalg.norm(along)


def test_verdict_counts_only_on_what_no_rounding_can_lower():
    # Rows of the block that differ by one unit in the last place: the numerical rank is 1, the rank is not.
    block = np.random.default_rng(2).normal(size=(4, 5))
    block[1:] = block[0] * (1 + np.finfo(float).eps * np.arange(5))
    rotated = mlp_from_arrays([block.T])
    found = subset.verdict(rotated, method("oft-b4"), np.eye(4))
    assert method("oft-b4").image(rotated).dimension == 3 < found.reach == 6


def test_verdict_is_not_fooled_by_rounding_in_the_jacobian():
    # Functional dimension 5, and a method of 5 parameters that has it all; see test_ranks for the weights.
    rng = np.random.default_rng(0)
    first, huge = rng.normal(size=(20, 5)), 1e12 * rng.normal(size=20)
    sizes, signs = np.tile(np.abs(rng.normal(size=15)), 2), np.r_[np.ones(15), -np.ones(15)]
    weights = [np.r_[first, first], np.outer(sizes, np.r_[huge, -huge]), signs[None]]
    noisy, x = mlp_from_arrays(weights, activation="identity"), rng.normal(size=(100, 5))
    chosen = Mask.of({"layers/0/kernel": np.arange(0, 200, 40)})
    assert subset.verdict(noisy, chosen, x).relation is subset.Relation.NOT_DECIDED


def test_verdict_looks_beside_an_exceptional_start_and_needs_no_witness(x):
    # With a head of zeros the network moves in 4 directions per hidden unit and bias only: no witness there.
    made = mlp(MLPConfig((6, 8, 4)), KEY, jnp.float64)
    zeroed = tree.paths(made.params)
    zeroed["layers/1/kernel"] = jnp.zeros_like(zeroed["layers/1/kernel"])
    network = made.with_params(tree.from_paths(zeroed))
    found = subset.verdict(network, Full("layers/1/*"), x)
    assert found.relation is subset.Relation.STRICTLY_INSIDE
    assert found.witness is None, "at θ₀ the head is all that moves the outputs"


def test_verdict_finds_a_witness_where_parameters_outnumber_outputs(network, x):
    chosen = method("loha-r1")  # 52 parameters, 24 dimensions
    found = subset.verdict(network, chosen, x[:9])
    assert found.reach < found.functional.rank <= 36 < chosen.reparameterize(network).k
    assert found.effect > 0.99


def test_verdict_counts_parameters_where_a_method_knows_no_image(network, x):
    class Unknown(Full):
        """Full fine-tuning of some leaves that says nothing of its image."""

        def image(self, network):
            raise ValueError("no closed form")

    found = subset.verdict(network, Unknown("layers/1/bias"), x)
    assert (found.relation, found.reach) == (subset.Relation.STRICTLY_INSIDE, 4)


def test_verdict_is_not_given_on_few_inputs_nor_where_nothing_is_lost(network, x):
    few = subset.verdict(network, LoRA(1), x[:4])
    assert few.relation is subset.Relation.NOT_DECIDED
    assert "give more inputs" in few.reason
    assert subset.verdict(network, Full(), x).relation is subset.Relation.INSIDE
    product = mlp_from_arrays([[[0.5]], [[1.0]]], activation="identity")
    frozen = subset.verdict(product, Full("layers/0/*"), np.linspace(-1, 1, 9)[:, None])
    assert frozen.relation is subset.Relation.NOT_DECIDED, (
        "w₂w₁x loses nothing, and no certificate may say so"
    )
    assert "not above the 1" in frozen.reason


def test_verdict_does_not_cover_extensions(network, x):
    found = subset.verdict(network, SerialAdapter(2), x)
    assert found.relation is subset.Relation.NOT_COVERED
    tokens = transformer(TransformerConfig(3, 4, 8, 1, 2, 8, 2), KEY, jnp.float64)
    assert subset.verdict(tokens, Prefix(2), np.ones((2, 4, 3))).k == 2 * 2 * 8
    with pytest.raises(ValueError, match="has no attention"):
        subset.verdict(network, Prefix(2), x)


# --- on trained networks, and pictures ---------------------------------------------------------------------


def test_training_itself_shows_adapters_outside_of_the_family(small_grid):
    evidence = observed_evidence(CLAIMS["T1.a"], small_grid["mlp-relu", "serial-adapter-4"])
    assert evidence.outcome is Outcome.FAILS
    assert observed_evidence(CLAIMS["T1.a"], small_grid["mlp-relu", "lora-r2"]).outcome is Outcome.HOLDS


def test_going_on_from_peft_fails_where_g_is_not_what_the_method_does(small_grid):
    class Turned(LoRA):
        """LoRA whose g has the wrong sign."""

        def update(self, path, kernel, parts):
            return -super().update(path, kernel, parts)

    right = small_grid["mlp-relu", "lora-r2"]
    wrong = dataclasses.replace(right, method=Turned(2))
    for claim in ("T1.R3", "T1.4"):
        assert observed_evidence(CLAIMS[claim], right).outcome is Outcome.HOLDS
        assert observed_evidence(CLAIMS[claim], wrong).outcome is Outcome.FAILS


def test_what_cannot_be_judged_says_why(small_grid):
    evidence = observed_evidence(CLAIMS["T1.4"], small_grid["mlp-relu", "serial-adapter-4"])
    assert evidence.outcome is Outcome.NOT_JUDGED
    assert "has no map g" in evidence.note
    assert observed_evidence(CLAIMS["T1.23"], small_grid["mlp-relu", "serial-adapter-4"]) is None


def test_pictures_name_every_method_and_tell_gauge_from_none(network, update):
    methods = (LoRA(2), BitFit(), Mask.of({"layers/0/kernel": np.arange(5)}))
    reaches = [plots.reach(one, network, update) for one in methods]
    ax = subset.plots.plot_dimensions(reaches)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["mask", "bitfit", "lora-r2"]
    assert "lora-r2 has 52 and reaches 44" in ax.get_title()
    ax = subset.plots.plot_distances(reaches)
    assert {text.get_text() for text in ax.texts} == {"lora-r2", "bitfit", "mask"}
    assert "lora-r2 comes nearest" in ax.get_title()
    assert subset.plots.plot_distances(reaches, ax) is ax
    with pytest.raises(ValueError, match="reaches is empty"):
        subset.plots.plot_dimensions([])


def test_every_claim_of_the_ledger_stands_on_a_page():
    from pathlib import Path

    pages = Path(__file__).parents[1] / "docs" / "theorems"
    if not pages.is_dir():
        pytest.skip("the pages are not part of an installation")
    text = "".join(page.read_text(encoding="utf-8") for page in pages.glob("*.md"))
    missing = [claim.id for claim in ledger() if claim.id not in text]
    assert not missing
