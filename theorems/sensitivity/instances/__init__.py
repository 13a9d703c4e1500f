"""What the claims of Theorem 4 are judged on, a kind to a file.

`tilted`: quadratics that a disturbance tilts, from forms in `products`; `tilts` draws them, `either` and
`matrices` are what they share in fractions and floats.  `gaps` and `residuals`: what the repairs compare on
them, `ordered` and `subspaces`: the same for whole matrices and for two subspaces, `noise`: averaged over
score noise.  `rooted`: those with a rational square root of H.  `compositions`: a quadratic loss seen
through a map g, `bends`: one of third order.  `expansions`: losses and their second order.  `trainings`: the
Hessians of tiny models.

Beyond quadratics: `convex` and `logistic` losses after a disturbance, `landscapes` with many minima,
`lowranks` with the best update of a rank, `blends`: losses that turn into others, `own_paths`: methods that
start at their own optimum there.  Of networks: `frozen_pairs` on disturbed data, `networks`: what was
measured at one point, `readaptations`: what training again left.
"""
