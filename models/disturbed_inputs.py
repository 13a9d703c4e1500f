"""Disturbances of the inputs: noise, brightness, and what turns, blurs or covers images."""

import dataclasses
import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float64

from .disturbance import Disturbance, Inputs, check_strength

Bounds = tuple[float, float]
Images = Float64[np.ndarray, "p h w channels"]
_LEAST = 4
"""Side from which on a vector with a square number of entries is taken for an image."""


@dataclasses.dataclass(frozen=True)
class Noise(Disturbance):
    """Gaussian noise on every input, `x + scale · N(0, 1)`, clipped to `bounds`.

    Args:
        scale: standard deviation, in units of the inputs; positive.
        bounds: the range that inputs keep to; None for inputs without one.

    Raises:
        ValueError: a setting out of range; when called, inputs outside the bounds.
    """

    scale: float = 0.2
    bounds: Bounds | None = (0.0, 1.0)
    stem: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        check_strength(self, self.scale > 0, "a positive number")
        _check_bounds(self)

    def inputs(self, x: Inputs, generator: np.random.Generator) -> Inputs:
        """Each entry with a draw of its own."""
        return _clipped(self, x, self.scale * generator.normal(size=x.shape))


@dataclasses.dataclass(frozen=True)
class Brightness(Disturbance):
    """The same number added to every input, clipped to `bounds`.

    Args:
        shift: in units of the inputs; not zero, negative darkens.
        bounds: as in `Noise`.

    Raises:
        ValueError: as `Noise`.
    """

    shift: float = 0.2
    bounds: Bounds | None = (0.0, 1.0)
    stem: ClassVar[str] = "brightness"

    def __post_init__(self) -> None:
        check_strength(self, self.shift != 0, "a number other than 0")
        _check_bounds(self)

    def inputs(self, x: Inputs, generator: np.random.Generator) -> Inputs:
        """Nothing is random here."""
        return _clipped(self, x, np.full((1,) * x.ndim, self.shift))


@dataclasses.dataclass(frozen=True)
class OfImages(Disturbance):
    """A disturbance of images: vectors of h·w pixels, or arrays (h, w).

    Subclasses have a field `image_shape`: (h, w), or (h, w, channels), of one example; None for square images
    of one channel, whose side is read off their shape.  So a vector of n² numbers is taken for an image,
    whatever it is; one of fewer than 16 is refused.
    """

    def inputs(self, x: Inputs, generator: np.random.Generator) -> Inputs:
        """The images, in the form they came in."""
        images = x.reshape(len(x), *_image_shape(self, x.shape[1:]))
        return self.images(images, generator).reshape(x.shape)

    @abstractmethod
    def images(self, x: Images, generator: np.random.Generator) -> Images:
        """The images of D′."""


@dataclasses.dataclass(frozen=True)
class Rotation(OfImages):
    """Images turned about their centre by the same angle, interpolated linearly, with zeros from outside.

    Args:
        degrees: counterclockwise, negative for the other way; not zero.
        image_shape: of one example, (h, w) or (h, w, channels); None for square images of one channel.

    Raises:
        ValueError: a setting out of range; when called, inputs that are not such images.
    """

    degrees: float = 15.0
    image_shape: tuple[int, ...] | None = None
    stem: ClassVar[str] = "rotation"

    def __post_init__(self) -> None:
        check_strength(self, self.degrees != 0, "a number other than 0")
        _check_shape(self)

    def images(self, x: Images, generator: np.random.Generator) -> Images:
        """Nothing is random here."""
        from scipy.ndimage import rotate  # noqa: PLC0415 - importing peftproof should be quick

        return rotate(x, self.degrees, axes=(1, 2), reshape=False, order=1)


@dataclasses.dataclass(frozen=True)
class Blur(OfImages):
    """Images convolved with a Gaussian; beyond their edges they continue with the value at the edge.

    Args:
        sigma: standard deviation of the Gaussian, in pixels; positive.
        image_shape: as in `Rotation`.

    Raises:
        ValueError: as `Rotation`.
    """

    sigma: float = 0.8
    image_shape: tuple[int, ...] | None = None
    stem: ClassVar[str] = "blur"

    def __post_init__(self) -> None:
        check_strength(self, self.sigma > 0, "a positive number")
        _check_shape(self)

    def images(self, x: Images, generator: np.random.Generator) -> Images:
        """Nothing is random here."""
        from scipy.ndimage import gaussian_filter  # noqa: PLC0415 - as above

        return gaussian_filter(x, (0, self.sigma, self.sigma, 0), mode="nearest")


@dataclasses.dataclass(frozen=True)
class Occlusion(OfImages):
    """A square of zeros laid over each image, at a place of its own, drawn uniformly among those inside it.

    Args:
        size: side of the square, in pixels; when called, less than both sides of the images.
        image_shape: as in `Rotation`.

    Raises:
        ValueError: as `Rotation`, and a square that covers an image from side to side.
    """

    size: int = 3
    image_shape: tuple[int, ...] | None = None
    stem: ClassVar[str] = "occlusion"

    def __post_init__(self) -> None:
        check_strength(self, self.size >= 1 and self.size == int(self.size), "a positive whole number")
        object.__setattr__(self, "size", int(self.size))
        _check_shape(self)

    def images(self, x: Images, generator: np.random.Generator) -> Images:
        """Places are drawn row by row and column by column."""
        if self.size >= min(x.shape[1:3]):
            raise ValueError(f"size: got {self.size}, needs less than the sides {x.shape[1:3]} of an image")
        hidden = []
        for side in x.shape[1:3]:
            first = generator.integers(0, side - self.size + 1, size=(len(x), 1))
            hidden.append((np.arange(side) >= first) & (np.arange(side) < first + self.size))
        covered = hidden[0][:, :, None, None] & hidden[1][:, None, :, None]
        return np.where(covered, 0.0, x)


def _check_bounds(made: Noise | Brightness) -> None:
    if made.bounds is not None and not (len(made.bounds) == 2 and made.bounds[0] < made.bounds[1]):
        raise ValueError(f"bounds: got {made.bounds}, needs (low, high) with low < high, or None")


def _check_shape(made: OfImages) -> None:
    shape = made.image_shape
    if shape is None:
        return
    if len(shape) not in (2, 3) or not all(int(side) == side and side >= 1 for side in shape):
        raise ValueError(f"image_shape: got {shape}, needs (height, width) or (height, width, channels)")
    object.__setattr__(made, "image_shape", tuple(int(side) for side in shape))


def _clipped(made: Noise | Brightness, x: Inputs, change: Float[np.ndarray, "..."]) -> Inputs:
    if made.bounds is None:
        return x + change
    low, high = made.bounds
    if x.min() < low or x.max() > high:
        raise ValueError(
            f"{made.name}: got inputs from {x.min():g} to {x.max():g}, outside bounds={made.bounds}; give "
            "the bounds of your inputs, or None"
        )
    return np.clip(x + change, low, high)


def _image_shape(made: OfImages, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of inputs of this shape."""
    wanted = made.image_shape
    if wanted is None:
        side = math.isqrt(math.prod(shape))
        if len(shape) == 1 and side**2 == shape[0] and side < _LEAST:
            raise ValueError(
                f"{made.name}: got vectors of {shape[0]} numbers, too few for an image to be guessed; give "
                f"image_shape=({side}, {side}) if they are pixels, else another disturbance, such as noise"
            )
        if (len(shape) == 1 and side**2 == shape[0]) or (len(shape) == 2 and shape[0] == shape[1]):
            return side, side, 1
        raise ValueError(
            f"{made.name}: got inputs of shape {shape}, needs square images, (n, n) or (n·n,); give "
            "image_shape=(height, width) for others"
        )
    if math.prod(wanted) != math.prod(shape):
        raise ValueError(
            f"{made.name}: got inputs of shape {shape}, needs {math.prod(wanted)} numbers each for "
            f"image_shape={wanted}"
        )
    return (*wanted, 1)[:3]
