"""Structured and sparse methods: two ways, dimensions, nearest points, masks by hand."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from peftproof.models import tree
from peftproof.models.fit import fit
from peftproof.models.methods import (
    FAR,
    IA3,
    LTSFT,
    PHM,
    S4,
    BitFit,
    Compacter,
    Composed,
    Frozen,
    Full,
    Head,
    KronA,
    LoKr,
    LoRA,
    Mask,
    RandomMask,
    TopLayers,
)
from peftproof.models.methods.sparse import sparse_distance
from peftproof.models.mlp import MLPConfig, mlp, mlp_from_arrays
from peftproof.models.network import Network
from peftproof.models.tasks import Split, Splits
from peftproof.models.transformer import TransformerConfig, transformer

KEY = jax.random.key(0)
EVEN = ("*attention*kernel", "*mlp*kernel", "head/kernel")
MASK = Mask.of({"layers/0/kernel": [5, 0, 11], "layers/1/bias": [1]})
PARTED = Composed((LoRA(2, targets="*0*kernel"), IA3(inputs="layers/1"), Full("*0/bias")))
METHODS = [
    *(Full(), Head(), BitFit(), IA3(), IA3(outputs="layers/*")),
    *(KronA(), LoKr(1), LoKr(2), PHM(2), PHM(2, shared=False), Compacter(2), Compacter(2, shared=False)),
    *(MASK, RandomMask(0.1), RandomMask(0.2, seed=1, targets="*kernel"), TopLayers(1), TopLayers(2), PARTED),
]
each = pytest.mark.parametrize("chosen", METHODS, ids=lambda one: one.name)
SIZES = {"features": 3, "length": 5, "width": 8, "depth": 1, "heads": 2, "hidden": 12, "outputs": 4}


def needs_biases(chosen):
    return chosen in (BitFit(), MASK, PARTED)


def fitting(chosen, config):
    """The method with settings that fit a transformer, or None where it has none."""
    if not isinstance(config, TransformerConfig):
        return None if needs_biases(chosen) and not config.biases else chosen
    if isinstance(chosen, PHM):  # three features cannot be halved
        return dataclasses.replace(chosen, targets=EVEN)
    if chosen in (MASK, PARTED, TopLayers(2), IA3(outputs="layers/*")):
        return None
    return chosen


@each
def test_update_of_parameters_equals_the_method_applied_the_ordinary_way(chosen, checks):
    for config in (checks.mlp, checks.plain_mlp, checks.transformer):
        if (one := fitting(chosen, config)) is not None:
            checks.agrees(one, config)


def test_that_comparison_would_notice_one_entry(checks):
    network, x = checks.network_of(checks.mlp), checks.inputs_of(checks.mlp)
    made = MASK.reparameterize(network)
    phi = checks.moved(made.init(KEY))
    other = {"entries": phi["entries"].at[2].add(1e-9)}
    got = network.apply(made.apply(network.params, other), x)
    assert np.abs(got - MASK.ordinary(network, phi)(x)).max() > 1e-11


@each
def test_dimensions_follow_their_closed_forms(chosen, checks):
    # An inclusion is one on every network; the mask fits the first only.
    included = isinstance(chosen, Full | Head | BitFit | Mask | RandomMask | TopLayers)
    for config in checks.shapes[: 1 if included else None]:
        if config.biases or not needs_biases(chosen):
            checks.dimensions_agree(chosen, checks.network_of(config))


@pytest.mark.parametrize(
    ("chosen", "widths", "dimension"),
    [
        (KronA(), (3, 2), 6),  # prime sides: one factor is a number, the other everything
        (LoKr(2), (6, 9), 6 + 2 * 4 - 1),
        (LoKr(3), (6, 9), 6 + 9 - 1),  # a whole second factor: KronA
        (LoKr(1), (3, 5), 3 + 5 - 1),  # A is a number: LoRA
        (PHM(1), (3, 2), 6),
        (PHM(4), (4, 4), 16),  # more terms than entries of B: everything
        (PHM(4, shared=False), (4, 8), 32),
        (Compacter(2, rank=3), (6, 8, 4), 2 * (4 + 20 - 2)),  # B of full rank: PHM
        (Compacter(4), (4, 4), 16),
        (Compacter(4, shared=False), (8, 8), 64),  # everything, and not the 72 that counting parameters gives
        (Compacter(4, rank=2), (8, 8, 4), 72),
        (Compacter(2, shared=False), (4, 6, 6, 2), 40),  # a target is full before its parameters run out
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_dimensions_hold_at_the_corners(chosen, widths, dimension, checks):
    network = checks.network_of(MLPConfig(widths))
    checks.dimensions_agree(chosen, network)
    assert chosen.image(network).dimension == dimension


def test_ia3_does_not_move_a_unit_without_weights(checks):
    network = mlp_from_arrays([[[1, 2], [0, 0], [3, 4]], [[1, 0, 2]]], [[0, 0, 1], [0]], "relu")
    # The second hidden unit has neither weights nor a bias, and its output goes nowhere.
    for chosen, dimension in ((IA3(outputs="layers/0"), 2), (IA3(), 2)):
        checks.dimensions_agree(chosen, network)
        assert chosen.image(network).dimension == dimension < chosen.reparameterize(network).k


@pytest.mark.parametrize(
    ("chosen", "widths"),
    [
        *((one, (4, 6, 2)) for one in (IA3(), IA3(outputs="*"), PHM(2), RandomMask(0.3))),
        (Composed((KronA("*0*kernel"), IA3(outputs="layers/1"))), (4, 6, 2)),
        *((one, (4, 6)) for one in (KronA(), LoKr(1), PHM(2, shared=False))),
        (Compacter(2), (4, 4)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_projections_are_nearest_points(chosen, widths, checks):
    checks.projects(chosen, checks.network_of(MLPConfig(widths)))


def test_a_subspace_of_whole_leaves_holds_every_update_of_them(checks):
    network = checks.network_of(checks.mlp)
    for chosen in (Full(), Head(), BitFit(), TopLayers(1)):
        target = {path: np.ones(leaf.shape) for path, leaf in tree.paths(network.params).items()}
        near = chosen.image(network).project(target)
        assert set(near) == set(chosen.reparameterize(network).touched())
        assert checks.distance(near, {path: target[path] for path in near}) == 0


# --- masks -------------------------------------------------------------------------------------------------


def test_lottery_tickets_are_the_largest_changes_and_ties_go_to_the_first():
    network = mlp((2, 2), KEY, np.float64)
    update = {"layers": {"0": {"bias": np.array([-4.0, 1.0]), "kernel": np.array([[2.0, -2.0], [2.0, 3.0]])}}}
    kept = {share: LTSFT(share).resolve(network, update).entries(network) for share in (0.01, 0.5, 0.6, 1)}
    listed = {share: {path: at.tolist() for path, at in entries.items()} for share, entries in kept.items()}
    assert listed[0.01] == {"layers/0/bias": [0]}
    assert listed[0.5] == {"layers/0/bias": [0], "layers/0/kernel": [0, 3]}
    assert listed[0.6] == {"layers/0/bias": [0], "layers/0/kernel": [0, 1, 3]}
    assert listed[1] == {"layers/0/bias": [0, 1], "layers/0/kernel": [0, 1, 2, 3]}
    only = LTSFT(0.5, targets="*kernel").resolve(network, update)
    assert {path: at.tolist() for path, at in only.entries(network).items()} == {"layers/0/kernel": [0, 3]}
    assert only.name == "lt-sft-50%[targets=*kernel]"


def test_no_other_mask_of_that_size_is_nearer_than_the_lottery_ticket(checks):
    network = checks.network_of(MLPConfig((2, 2, 1)))
    rng = np.random.default_rng(0)
    update = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), network.params)
    flat = {path: np.asarray(leaf) for path, leaf in tree.paths(update).items()}

    def missed(mask):
        near = mask.image(network).project(flat)
        return checks.distance({path: near.get(path, 0 * leaf) for path, leaf in flat.items()}, flat)

    least = sparse_distance(update, 3)
    assert missed(LTSFT(3 / 9).resolve(network, update)) == pytest.approx(least, rel=1e-14)
    cells = [(path, i) for path, leaf in flat.items() for i in range(leaf.size)]
    others = []
    for three in itertools.combinations(cells, 3):
        at = {path: [i for p, i in three if p == path] for path, _ in three}
        others.append(missed(Mask.of({path: np.array(which) for path, which in at.items()})))
    assert min(others) == pytest.approx(least, rel=1e-14)
    # The negative control: any other mask of three entries misses more.
    assert sorted(others)[1] > least * (1 + 1e-6)
    assert sparse_distance(update, 9) == sparse_distance(update, 99) == 0


def test_far_trains_the_nodes_that_changed_most():
    network = mlp((2, 3, 2), KEY, np.float64)
    update = jax.tree.map(lambda leaf: np.zeros(leaf.shape), network.params)
    update["layers"]["0"]["kernel"][:, 1] = [1, -2]
    update["layers"]["1"]["kernel"][2] = [-2, 2]
    update["layers"]["1"]["bias"][:] = 100  # belongs to no hidden node
    chosen = FAR(0.34).resolve(network, update)
    assert {path: at.tolist() for path, at in chosen.entries(network).items()} == {
        "layers/0/bias": [2],
        "layers/0/kernel": [2, 5],
        "layers/1/kernel": [4, 5],
    }
    two = FAR(0.67).resolve(network, update).entries(network)
    assert two["layers/0/bias"].tolist() == [1, 2]
    assert chosen.name == "far-34%"


def test_far_keeps_to_the_perceptrons_of_a_transformer(checks):
    network = checks.network_of(checks.transformer)
    update = jax.tree.map(lambda leaf: np.ones(leaf.shape), network.params)
    chosen = FAR(0.25).resolve(network, update)
    made = chosen.reparameterize(network)
    assert made.touched() == (
        "blocks/0/mlp/down/kernel",
        "blocks/0/mlp/up/bias",
        "blocks/0/mlp/up/kernel",
    )
    assert made.k == 3 * (8 + 1 + 8)
    checks.agrees(chosen, checks.transformer)


@pytest.mark.parametrize("chosen", [LTSFT(0.2), FAR(0.3)], ids=lambda one: one.name)
def test_masks_of_several_seeds_are_trained_together(chosen):
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(40, 4)), rng.integers(0, 3, 40).astype(np.int32))
    found = fit(
        mlp((4, 6, 3), KEY, np.float64),
        Splits(split, split, split),
        chosen,
        seeds=(0, 1, 2),
        steps=10,
        eval_every=5,
        batch_size=8,
    )
    assert len(set(found.methods)) > 1
    assert {method.name for method in found.methods} == {chosen.name}
    assert {leaf.shape[0] for leaf in jax.tree.leaves(found.phi)} == {3}


def test_random_masks_repeat_for_a_seed_and_have_the_share_that_was_asked_for(checks):
    network = checks.network_of(checks.mlp)
    made = [RandomMask(0.25, seed).entries(network) for seed in (0, 0, 1)]
    flat = [np.concatenate([*entries.values()]).tolist() for entries in made]
    assert flat[0] == flat[1] != flat[2]
    assert len(flat[0]) == round(0.25 * network.d)
    assert RandomMask(1e-9).reparameterize(network).k == 1


def test_masks_with_the_same_entries_are_equal():
    again = Mask.of({"layers/1/bias": np.array([1]), "layers/0/kernel": np.array([0, 5, 11])})
    assert dict(again.at) == dict(MASK.at)
    assert Mask(MASK.at) == MASK
    assert hash(Mask(MASK.at)) == hash(MASK)
    assert Mask.of({"layers/0/kernel": [1]}) != Mask.of({"layers/0/kernel": [2]})


def test_update_of_a_mask_by_hand():
    network = mlp((2, 2), KEY, np.float64)
    mask = Mask((("layers/0/kernel", Frozen([3, 1])), ("layers/0/bias", Frozen([0]))))
    update = mask.reparameterize(network).g({"entries": np.array([10.0, 1.0, 2.0])})
    # Φ follows the leaves of θ, where biases come first, and in each leaf the order that the mask gives.
    np.testing.assert_array_equal(update["layers"]["0"]["bias"], [10, 0])
    np.testing.assert_array_equal(update["layers"]["0"]["kernel"], [[0, 2], [0, 1]])


# --- layers ------------------------------------------------------------------------------------------------


def test_top_layers_are_the_last_ones(checks):
    network = checks.network_of(MLPConfig((4, 6, 6, 2)))
    last = {f"layers/{index}/{leaf}" for index in (1, 2) for leaf in ("bias", "kernel")}
    assert set(TopLayers(2).reparameterize(network).touched()) == last
    assert TopLayers(1).reparameterize(network).touched() == Head().reparameterize(network).touched()
    for norm_first in (True, False):
        deep = checks.network_of(TransformerConfig(**SIZES | {"depth": 2}, norm_first=norm_first))
        tops = {path.split("/")[0] for path in TopLayers(1).reparameterize(deep).touched()}
        assert tops == ({"blocks", "head", "norm"} if norm_first else {"blocks", "head"})
        assert not any(path.startswith("blocks/0") for path in TopLayers(1).reparameterize(deep).touched())


# --- names and refusals ------------------------------------------------------------------------------------


def test_names_tell_settings_apart_and_methods_are_keys():
    several = [
        *METHODS,
        *(KronA("*0*"), LoKr(1, targets="*0*"), PHM(4), Compacter(2, rank=2), RandomMask(0.05)),
        *(LTSFT(), LTSFT(0.1), FAR(), FAR(0.5)),
    ]
    assert len({one.name for one in several}) == len(several) == len(set(several))
    assert [one.name for one in (KronA(), LoKr(1), LTSFT(), RandomMask())] == [
        "krona",
        "lokr-r1",
        "lt-sft-5%",
        "mask-5%",
    ]


OWN = Network(lambda params, x: x @ params["slope"], {"slope": np.ones((3, 2))}, name="own")
FLAT = mlp((6, 4), KEY, np.float64)
SHALLOW = mlp((6, 8, 4), KEY, np.float64)
FOUR = TransformerConfig(**SIZES | {"depth": 4})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LoKr(0), "rank: got 0"),
        (lambda: LoKr(9).reparameterize(SHALLOW), r"rank: got 9 for 'layers/0/kernel'.*at most 3"),
        (lambda: PHM(0), "n: got 0"),
        (lambda: PHM(3).reparameterize(SHALLOW), r"n: got 3 for 'layers/0/kernel' of shape \(6, 8\)"),
        (lambda: Compacter(2, rank=0), "rank: got 0"),
        (lambda: KronA("*bias").reparameterize(SHALLOW), "targets: 'layers/0/bias' has shape"),
        (lambda: RandomMask(0.0), "share: got 0"),
        (lambda: RandomMask(1.5), "share: got 1.5"),
        (lambda: LTSFT(-1), "share: got -1"),
        (lambda: FAR(2), "share: got 2"),
        (lambda: LTSFT(targets="x").check(SHALLOW), "pattern: 'x' matches no parameter"),
        (lambda: Mask(()), "at: got no entry"),
        (lambda: Mask((("a", Frozen([1, 1])),)), "at: indices of 'a' repeat"),
        (lambda: Mask.of({"a": [1]}).reparameterize(SHALLOW), "at: 'mlp' has no leaf 'a'"),
        (lambda: Mask.of({"layers/0/*": [1]}).reparameterize(SHALLOW), "has no leaf"),
        (lambda: Mask.of({"layers/1/bias": [4]}).reparameterize(SHALLOW), "at: .* has 4 entries"),
        (lambda: Mask.of({"layers/1/bias": [-1]}).image(SHALLOW), "at: .* has 4 entries"),
        (lambda: sparse_distance(SHALLOW.params, -1), "count: got -1"),
        (lambda: LTSFT().resolve(SHALLOW, FLAT.params), "update: missing"),
        (lambda: FAR().resolve(SHALLOW, FLAT.params), "update: missing"),
        (lambda: LTSFT().reparameterize(SHALLOW), "chooses its map g by a first training run"),
        (lambda: FAR().check(FLAT), "no hidden nodes for FAR to choose among"),
        (lambda: FAR().check(OWN), "not known; train the entries of your choice with Mask.of"),
        (lambda: TopLayers(0), "k: got 0"),
        (lambda: TopLayers(3).reparameterize(SHALLOW), "k: got 3, needs at most the 2 layers"),
        (lambda: TopLayers(1).reparameterize(OWN), r"Full\(pattern\)"),
        (lambda: Composed((Full(),)), "methods: got 1, needs two or more"),
        (
            lambda: Composed((LoRA(1), BitFit(), Full("*1/bias"))).reparameterize(SHALLOW),
            r"bitfit and full\[\*1/bias\] both change 'layers/1/bias'",
        ),
        (lambda: S4().enlarge(SHALLOW), "is no transformer, and S4 needs attention"),
        (
            lambda: S4().enlarge(transformer(dataclasses.replace(FOUR, biases=False, norm="rms"), KEY)),
            "no biases, and S4 needs those of its blocks",
        ),
    ],
)
def test_refusals_name_what_is_wrong(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_an_update_that_is_not_finite_chooses_no_mask():
    update = jax.tree.map(lambda leaf: leaf * np.nan, SHALLOW.params)
    for chosen in (LTSFT(), FAR()):
        with pytest.raises(ValueError, match=r"update: .* has NaN or infinite entries"):
            chosen.resolve(SHALLOW, update)
