"""What the claims of Theorem 5 are judged on, a kind to a file, with the strategies that draw it.

`regressions`: the exact learning curves, at one sample size.  `draws`: the same models, drawn and fitted.
`rates`: generalisation errors of the order √(d/N).  `samples`: small learning problems, all samples of which
are listed, `bounded` and `slow`: linear ones among them.  `designs`: least squares on given inputs, with all
signs of the noise listed.  `sines`: a class with one parameter that fits everything.  `kernels`: linear
classes and their subspaces, `layers`: layers of limited rank, `classes`: finite classes and their losses,
each with all signs.  `curves`: learning curves, planted or measured.  `networks`: what trained networks
show.
"""
