"""The built-in dataset: procedural frontal chest radiographs with ground truth.

X-rays are attenuated exponentially along their path through tissue, air and bone
(Beer-Lambert law). A detector with scatter, blur and quantum noise records the
remaining intensity. The image shows the intensity's logarithm, bone bright and air dark
(MONOCHROME2). Even indices are NORMAL, odd ones PNEUMONIA: consolidation of a lobe or
diffuse interstitial opacity, within the lung fields only.

Patient and exposure do not depend on the label, and air displaced by an opacity moves
to the spared parts of the lungs. Therefore neither the mean, nor the standard
deviation, nor the border of an image predicts the label.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from cxr_gan.data.phantom import anatomy, skeleton

CLASS_NAMES = ("NORMAL", "PNEUMONIA")
SIDES = ("none", "left", "right", "both")  # from the patient's view
VERSION = "1"  # part of the cache key: increase it if any pixel changes
SUPERSAMPLING = 2  # rendered pixels per image pixel, along each axis

# Linear attenuation at the mean energy of a 70 kVp beam, about 45 keV, 1/cm: NIST XCOM
# (water about 0.25, cortical bone about 1); rib and vertebra are mostly marrow.
TISSUE, BONE = 0.24, 0.62


@dataclasses.dataclass(frozen=True)
class Exposure:
    """How the radiograph is exposed and displayed."""

    photons: float  # per pixel of a 64 x 64 image, without a patient
    scatter: float  # ratio of scattered to primary intensity
    blur: float  # radius of the focal spot's penumbra, in chest units
    black: float  # optical depth displayed black, relative to the patient's mean
    contrast: float  # factor of the relative optical depth above `black`
    gamma: float  # exponent of the result
    heel: tuple[float, float]  # heel effect: intensity change across the image, (x, y)


@dataclasses.dataclass(frozen=True)
class Disease:
    """The opacity that PNEUMONIA adds to a patient."""

    kind: str  # "lobar" or "interstitial"
    side: str  # "left", "right" or "both", of the patient
    lobe: str  # "upper" or "lower"; where interstitial opacity is strongest
    density: float  # fraction of air lost
    extent: float  # in units of Chest.level
    centre: float  # offset, in units of Chest.level
    texture: np.ndarray  # float32 [40, 40], lattice of white noise
    outline: np.ndarray  # float32 [9, 9], the same for the border


@dataclasses.dataclass(frozen=True)
class Factors:
    """Everything that determines a radiograph, except resolution and quantum noise."""

    patient: anatomy.Patient
    exposure: Exposure
    disease: Disease | None  # None if NORMAL


@dataclasses.dataclass(frozen=True)
class Phantom:
    """One radiograph of s x s pixels with its ground truth."""

    image: np.ndarray  # uint8 [s, s, 1]
    label: int  # 0 NORMAL, 1 PNEUMONIA
    lungs: np.ndarray  # bool [s, s], the lung fields
    heart: np.ndarray  # bool [s, s]
    # float32 [s, s] in [0, 1]: fraction of air lost; 0 outside the lungs
    opacity: np.ndarray
    side: str  # one of SIDES; the patient's left is on the right of the image
    factors: Factors


def render(seed: int, index: int, resolution: int) -> Phantom:
    """Radiograph `index` of dataset `seed`; the same patient at every resolution.

    Raises:
        ValueError: seed or index is below 0, or resolution below 16.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed={seed}, index={index}: both must be 0 or more")
    if resolution < 16:
        raise ValueError(
            f"resolution={resolution} is too small to show a chest; use 16 or more"
        )
    factors = draw_factors(seed, index)
    n = SUPERSAMPLING * resolution
    chest = anatomy.chest(factors.patient, n)
    if factors.disease is None:
        opacity, tissue = np.zeros_like(chest.air), chest.soft - chest.air
    else:
        opacity = _opacity(factors.disease, chest)
        tissue = chest.soft - _displaced_air(chest, opacity)
    depth = TISSUE * np.maximum(tissue, 0.0) + BONE * skeleton.bones(factors.patient, n)
    noise = np.random.default_rng([seed, index, resolution])
    image = _expose(factors, _average(np.exp(-depth)), noise)
    lungs = _average(chest.field) > 0.5
    return Phantom(
        image=image[..., None],
        label=index % 2,
        lungs=lungs,
        heart=_average(chest.heart) > 0.5,
        opacity=_average(opacity) * lungs,
        side="none" if factors.disease is None else factors.disease.side,
        factors=factors,
    )


def render_many(
    seed: int, indices: Iterable[int], resolution: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, s, s, 1] and labels int32 [n], equal to those of `render`."""
    images, labels = [], []
    for index in indices:
        phantom = render(seed, index, resolution)
        images.append(phantom.image)
        labels.append(phantom.label)
    return np.stack(images), np.array(labels, np.int32)


def draw_factors(seed: int, index: int) -> Factors:
    """The factors of radiograph `index` of dataset `seed`."""
    rng = np.random.default_rng([seed, index])
    patient = anatomy.draw_patient(rng)
    exposure = Exposure(
        photons=float(np.exp(rng.uniform(np.log(2e3), np.log(2e4)))),
        scatter=rng.uniform(0.15, 0.45),
        blur=rng.uniform(0.009, 0.018),
        black=rng.uniform(0.05, 0.28),
        contrast=rng.uniform(0.80, 1.20),
        gamma=rng.uniform(0.85, 1.3),
        heel=(rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15)),
    )
    disease = _draw_disease(rng)
    return Factors(patient, exposure, disease if index % 2 else None)


def _draw_disease(rng: np.random.Generator) -> Disease:
    kind = "lobar" if rng.random() < 0.5 else "interstitial"
    one_side = ("left", "right")[rng.integers(2)]
    is_bilateral = rng.random() < 0.6
    return Disease(
        kind=kind,
        side="both" if kind == "interstitial" and is_bilateral else one_side,
        lobe=("upper", "lower")[rng.integers(2)],
        density=rng.uniform(0.6, 0.92),
        extent=rng.uniform(0.26, 0.46),
        centre=rng.uniform(-0.06, 0.06),
        texture=rng.standard_normal((40, 40), np.float32),
        outline=rng.standard_normal((9, 9), np.float32),
    )


def _opacity(disease: Disease, chest: anatomy.Chest) -> np.ndarray:
    """Fraction of air lost; float32 [n, n] in [0, 1]."""
    n = len(chest.air)
    border_noise = _smooth_noise(disease.outline, n)
    middle = (0.30 if disease.lobe == "upper" else 0.80) + disease.centre
    distance = np.abs(chest.level - middle)
    if disease.kind == "lobar":
        # An irregular border towards the lung, a straighter one along the fissure.
        radius = np.hypot(
            distance / disease.extent, np.clip(chest.lateral - 0.45, 0, 1)
        )
        cover = anatomy.smoothstep(0.85 - radius + 0.12 * border_noise, 0.5)
        amount = cover * (1.0 + 0.10 * _smooth_noise(disease.texture, n))
    else:
        noise = _smooth_noise(disease.texture, n)
        network = np.clip(1.0 - 1.6 * np.abs(noise), 0.0, 1.0)
        cover = np.clip(1.25 - 0.7 * distance + 0.12 * border_noise, 0.0, 1.0)
        amount = cover * (0.28 + 0.62 * network)
    if disease.side != "both":
        affected = chest.side > 0 if disease.side == "left" else chest.side < 0
        amount = np.where(affected, amount, np.float32(0.0))
    # Rises steeply inside the lung field, so no rim of air remains along the heart.
    inside = np.clip(8.0 * chest.field, 0.0, 1.0)
    return np.clip(disease.density * amount, 0.0, 1.0) * inside


def _displaced_air(chest: anatomy.Chest, opacity: np.ndarray) -> np.ndarray:
    """Path through air in cm, after the opacity has displaced some of it.

    The spared parts of the lungs take up the displaced air (compensatory
    overinflation). Without that, the mean of an image would predict its label.
    """
    kept = chest.air * (1.0 - opacity)
    lost = float(chest.air.sum() - kept.sum())
    spared = chest.air * (1.0 - opacity) ** 2
    gain = min(lost / float(spared.sum()), 0.22)
    return kept + gain * spared


def _expose(
    factors: Factors, primary: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Image uint8 [s, s] of the intensity behind the patient, [s, s]."""
    exposure, s = factors.exposure, len(primary)
    # Scatter is blurred widely, the primary beam only by the focal spot's penumbra.
    scattered = ndimage.gaussian_filter(
        primary, 0.35 * s / 2, mode="nearest", truncate=2.5
    )
    light = ndimage.gaussian_filter(primary, exposure.blur * s / 2, mode="nearest")
    light = light + 0.4 * exposure.scatter * scattered
    ramp = np.linspace(-0.5, 0.5, s, dtype=np.float32)
    light = light * (1.0 + exposure.heel[0] * ramp + exposure.heel[1] * ramp[:, None])
    # At a higher resolution a pixel is smaller and receives fewer photons.
    photons = (
        exposure.photons * (64 / s) ** 2 * math.exp(TISSUE * factors.patient.thickness)
    )
    quanta = rng.standard_normal((s, s), np.float32) * np.sqrt(
        np.maximum(light, 0.0) * (4.0 / photons)
    )
    depth = -np.log(np.maximum(light + quanta, 1e-4))
    # Exposure control depends on the patient's thickness, not on the lungs.
    tissue_depth = TISSUE * factors.patient.thickness
    shown = (depth / tissue_depth - exposure.black) * exposure.contrast
    shown = np.clip(shown, 0.0, 1.3) ** exposure.gamma
    return np.clip(np.rint(255.0 * np.tanh(shown) / np.tanh(1.3)), 0, 255).astype(
        np.uint8
    )


def _average(fine: np.ndarray) -> np.ndarray:
    """[f s, f s] -> float32 [s, s], with f = SUPERSAMPLING."""
    s = len(fine) // SUPERSAMPLING
    blocks = fine.reshape(s, SUPERSAMPLING, s, SUPERSAMPLING)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def _smooth_noise(lattice: np.ndarray, n: int) -> np.ndarray:
    """White noise [k, k] -> a smooth field [n, n] of variance about 1."""
    spline = _spline_matrix(n, len(lattice))
    # einsum, not BLAS: on matrices this small BLAS threads cost more than they save.
    rows = np.einsum("ik,lk->il", spline, lattice.T)
    return np.einsum("il,jl->ij", rows, spline)


@functools.lru_cache(maxsize=32)
def _spline_matrix(n: int, k: int) -> np.ndarray:
    """Cubic B-splines float32 [n, k]: k knots over n pixels, rows of unit length."""
    position = (np.arange(n)[:, None] + 0.5) / n * (k - 3) + 1.0
    d = np.abs(position - np.arange(k)[None, :])
    weights = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.clip(2 - d, 0, None) ** 3 / 6)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)
