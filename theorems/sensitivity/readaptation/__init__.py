"""Training again on disturbed data, beside what the quadratic model predicts.

`readapt` does it for several disturbances and methods, with `study`, which computes once what they share:
`stationary`, where a network is at rest, `tangent`, the linear map of a method, and `paths`, minima as the
share t of disturbed data grows, which `descent` finds.  `own_optima` does it from the optimum of a method.
`results` are the records, `keeping` keeps what took long.
"""

from .own_optima import OwnOptimum, OwnReadaptation, own_optimum
from .readapt import readapt
from .results import Readaptation, Readaptations

__all__ = ["OwnOptimum", "OwnReadaptation", "Readaptation", "Readaptations", "own_optimum", "readapt"]
