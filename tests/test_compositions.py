"""Compositions: members nested and summed, groups of blocks, S4, and what they keep of their members."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models.methods import (
    IA3,
    S4,
    AdaLoRA,
    BitFit,
    Composed,
    DoRA,
    Full,
    KronA,
    LoKr,
    LoRA,
    ParallelAdapter,
    Prefix,
    RandomMask,
    SerialAdapter,
    TopLayers,
)
from peftproof.models.methods.composed import spindle
from peftproof.models.mlp import MLPConfig
from peftproof.models.transformer import TransformerConfig

KEY = jax.random.key(0)
SIZES = {"features": 3, "length": 5, "width": 8, "depth": 1, "heads": 2, "hidden": 12, "outputs": 4}

PARTED = Composed((LoRA(2, targets="*0*kernel"), IA3(inputs="layers/1"), Full("*0/bias")))
"""One for perceptrons, whose members have leaves of their own."""
TWO = TransformerConfig(**SIZES | {"depth": 2})
FOUR = TransformerConfig(**SIZES | {"depth": 4})
MIXES = [
    Composed((LoRA(2, targets="*attention*kernel"), Full(("*mlp*bias", "head/*")), KronA("*mlp*kernel"))),
    Composed((BitFit(), LoRA(1, targets="*kernel"))),
    Composed((DoRA(2, targets="*query*kernel"), IA3("blocks/*/attention/value", "blocks/*/mlp/down"))),
    Composed((TopLayers(1), RandomMask(0.2, targets="blocks/0/*"))),
]


@pytest.mark.parametrize("chosen", MIXES, ids=lambda one: one.name[:40])
def test_compositions_agree_with_their_members_nested(chosen, checks):
    checks.agrees(chosen, TWO)


def test_a_composition_is_the_sum_of_its_members(checks):
    network = checks.network_of(checks.mlp)
    made = PARTED.reparameterize(network)
    phi = checks.moved(made.init(KEY))
    total = made.g(phi)
    for index, member in enumerate(PARTED.methods):
        total = jax.tree.map(jnp.subtract, total, member.reparameterize(network).g(phi[str(index)]))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(total))
    images = [member.image(network) for member in PARTED.methods]
    image = PARTED.image(network)
    assert image.dimension == sum(one.dimension for one in images)
    assert image.initial_rank == sum(one.initial_rank for one in images)
    assert (image.linear, image.exact) == (False, True)
    assert Composed((BitFit(), LoKr(1))).image(checks.network_of(MLPConfig((6, 9)))).exact is False


WITH_EXTENSIONS = [
    Composed((SerialAdapter(width=2), LoRA(2, targets="*attention*kernel"))),
    Composed((LoRA(2, targets="*attention*kernel"), SerialAdapter(width=2))),
    Composed((IA3(), Prefix(2), Full("head/*"), ParallelAdapter(width=2))),
    S4(),
]


@pytest.mark.parametrize("chosen", WITH_EXTENSIONS, ids=lambda one: one.name[:40])
def test_compositions_with_extensions_agree_with_their_members_nested(chosen, checks):
    network, x = checks.network_of(FOUR), checks.inputs_of(FOUR)
    enlarged = chosen.enlarge(network)
    made = chosen.trainable(enlarged)
    phi = checks.moved(made.init(KEY))
    got = enlarged.apply(made.apply(enlarged.params, phi), x)
    np.testing.assert_allclose(jax.jit(chosen.ordinary(network, phi))(x), got, rtol=1e-12, atol=1e-12)
    assert np.abs(got - network(x)).max() > 1e-3
    assert not chosen.weight_space
    assert chosen.neutral == np.allclose(enlarged(x), network(x), atol=1e-14)
    with pytest.raises(ValueError, match="there is no map g"):
        chosen.reparameterize(network)


def test_groups_of_blocks_are_a_spindle():
    for depth in range(1, 40):
        groups = spindle(depth)
        sizes = [len(groups.get(group, ())) for group in range(1, 5)]
        assert sorted(itertools.chain(*groups.values())) == list(range(depth))
        assert list(itertools.chain(*(groups[group] for group in sorted(groups)))) == list(range(depth))
        if depth >= 4:
            assert max(sizes[0], sizes[3]) <= min(sizes[1:3])
    assert [len(spindle(12)[group]) for group in range(1, 5)] == [2, 4, 4, 2]


def test_s4_gives_each_group_its_mix(checks):
    network = checks.network_of(FOUR)
    made = S4().trainable(S4().enlarge(network))
    mixes = {
        f"blocks/{block}": {
            kind
            for kind, sign in (("A", "serial_adapter/"), ("P", "prefix/"), ("B", "bias"), ("L", "kernel"))
            for path in made.touched()
            if f"blocks/{block}/" in f"{path}/"
            and (path.startswith(sign) if "/" in sign else path.startswith("blocks") and path.endswith(sign))
        }
        for block in range(4)
    }
    assert list(mixes.values()) == [{"A", "L"}, {"A", "P"}, {"A", "P", "B"}, {"P", "B", "L"}]


def test_a_composition_keeps_penalties_and_schedules_of_its_members(checks):
    network = checks.network_of(checks.mlp)
    member = AdaLoRA(2, targets="*0*kernel")
    chosen = Composed((Full("*1*"), member))
    made = chosen.reparameterize(network)
    phi = checks.moved(made.init(KEY))
    assert chosen.penalty(phi) == member.penalty(phi["1"])
    assert Composed((Full("*1*"), Full("*0*"))).penalty(phi) is None
    assert Composed((Full("*1*"), Full("*0*"))).schedule() is None
    inner, outer = member.schedule(), chosen.schedule()
    assert (inner is None) == (outer is None)
    if inner is not None:
        after, _ = outer.after(phi, phi, outer.start(phi), jnp.asarray(0.5))
        expected, _ = inner.after(phi["1"], phi["1"], inner.start(phi["1"]), jnp.asarray(0.5))
        for one, other in zip(jax.tree.leaves(after["1"]), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(jax.tree.leaves(after["0"]), jax.tree.leaves(phi["0"]), strict=True):
            np.testing.assert_array_equal(one, other)


def test_names_tell_compositions_apart_and_they_are_keys():
    several = [PARTED, *MIXES, *WITH_EXTENSIONS, S4(rank=1), S4(width=2)]
    assert len({one.name for one in several}) == len(several) == len(set(several))
