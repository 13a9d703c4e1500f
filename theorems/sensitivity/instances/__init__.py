"""What the claims of Theorem 4 are judged on, a kind to a file.

`tilted`: quadratics that a disturbance tilts, from forms in `products`; `tilts` draws them, `either` is what
they share in fractions and floats.  `rooted`: those with a rational square root of H.  `compositions`: a loss
seen through a map g.  `expansions`: losses and their second order.  `trainings`: the Hessians of tiny models.
"""
