r"""What the paper says of frozen networks, T4.f and T4.g: observations, which no proof settles."""

from __future__ import annotations

from ..claims import Claim, Comparison, Control, Judgement
from . import observed_frozen
from .instances.frozen_pairs import FrozenPair, Steepness, planted, steep


def _full_loses_less(i: FrozenPair) -> Comparison:
    return Comparison(i.losing, ">", i.losing_full, standard_error=i.standard_error, statistics=i.statistics)


def _steeper_loses_more(i: Steepness) -> Comparison:
    return Comparison(i.losing, ">", i.losing_flat, standard_error=i.standard_error, statistics=i.statistics)


_SENSITIVE, _DULL = (4.0, 1.5, 1.0), (0.5, 0.45, 0.4)
"""Margins: the first has the smaller losses throughout, and loses more."""

CLAIMS = (
    Claim(
        id="T4.f",
        theorem="sensitivity",
        statement=r"\text{FFT is more robust than PEFT}",
        judgement=Judgement.EMPIRICAL,
        reason="frozen networks on disturbed data: Theorem 4 says nothing of them; it depends on the method",
        plain=(
            "Fully fine-tuned networks are said to suffer less from disturbed data. That is looked at: by "
            "how much the loss rises and the accuracy falls when nothing is trained any more, for the method "
            "and for full fine-tuning; in the mean over noise, rotation, blur, brightness, occlusion, "
            "another mix of classes, and inputs chosen against each network. Both must be worse for the "
            "method by more than five standard errors."
        ),
        compare=_full_loses_less,
        exact=lambda: {
            "PEFT's margins fall further": planted((3.0, 0.5, 0.0), (3.0, 2.5, 2.0)),
            "the same, with the smaller losses throughout": planted(_SENSITIVE, _DULL),
        },
        control=Control(
            "the fall of the margins: full fine-tuning's, while PEFT has the larger losses throughout",
            exact=lambda: planted(_DULL, _SENSITIVE),
        ),
        observe=observed_frozen.frozen_pairs,
        on_extensions=True,
        detail=FrozenPair.rows,
    ),
    Claim(
        id="T4.g",
        theorem="sensitivity",
        statement=(
            r"\text{flatter parameter distributions are more robust, steeper ones more sensitive: } "
            r"\operatorname{sd}(\Delta\theta) < \operatorname{sd}(\Delta\theta') \Rightarrow "
            r"\Delta\mathcal{L} > \Delta\mathcal{L}'"
        ),
        judgement=Judgement.EMPIRICAL,
        reason="the theory cited speaks of the curvature of the loss, not of the histogram of weights",
        plain=(
            "The entries of a PEFT update are said to lie closer to zero than those of full fine-tuning, and "
            "such a network to be more sensitive. Of each method and full fine-tuning the one with the "
            "smaller standard deviation of Δθ, zeros included, is taken, and whether it loses more, as in "
            "T4.f, is looked at."
        ),
        compare=_steeper_loses_more,
        exact=lambda: {
            "PEFT is ten times steeper and loses more": steep(planted(_SENSITIVE, _DULL), 0.1),
            "full fine-tuning is twice as steep, loses more": steep(planted(_DULL, _SENSITIVE), 2.0),
        },
        control=Control(
            "the order of the spreads: reversed, the flatter one loses more",
            exact=lambda: steep(planted(_SENSITIVE, _DULL), 10.0),
        ),
        observe=observed_frozen.steepness,
    ),
)
