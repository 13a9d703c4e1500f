"""What the claims of Theorem 3 are judged on, a kind to a file, with the strategies that draw it.

`spectra`: updates whose singular values are known.  `quadratics`: losses around an optimum.  `determinants`:
losses that no small rank improves.  `layers`: linear layers and rivals of the truncation.  `regressions`: the
exact model of frozen A, and its draws.  `samples`: small learning problems, all samples of which are listed.
`alignments`: matrices in balls, and random signs.  `observations`: what only trained networks give.
"""
