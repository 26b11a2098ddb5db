"""The phantom's healthy chest: the patient, with soft tissue and air.

Chest coordinates: x from -1 to 1 towards the patient's left (the right of the image, as
radiographs are displayed), y from -1 to 1 downwards; one unit is about half an image.
Every shape is a function of x and y, so a patient looks the same at any resolution.
"""

import dataclasses
import math
from typing import Any

import numpy as np


def _uniform(low: float, high: float) -> Any:
    """A field that `draw_patient` draws uniformly from low to high."""
    return dataclasses.field(metadata={"range": (low, high)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patient:
    """What varies between patients, healthy or ill; lengths are in chest units.

    The patients are children of about 1 to 15 years, as in the paediatric datasets that
    the phantom stands in for. `cardiothoracic_ratio` lies around
    0.493, the mean of healthy children of this age (Chia et al. 2022, "Radiographic
    assessment of the cardiothoracic ratio in the pediatric age group", Calabar J Health
    Sci 6:65-71), and below 0.55, above which a child's heart is often called enlarged.
    """

    rotation: float = _uniform(-0.06, 0.06)  # radians, counter-clockwise
    shift_x: float = _uniform(-0.05, 0.05)
    shift_y: float = _uniform(-0.06, 0.05)
    scale: float = _uniform(0.97, 1.10)
    yaw: float = _uniform(-0.04, 0.04)  # shift of heart and spine by a turned patient
    scoliosis: float = _uniform(-0.05, 0.05)  # lateral bend of the spine
    thickness: float = _uniform(10.0, 17.0)  # cm from front to back
    fat: float = _uniform(0.06, 0.15)  # thickness of the chest wall outside the ribs
    chest_width: float = _uniform(0.61, 0.69)  # half the inner width of the rib cage
    inspiration: float = _uniform(0.0, 1.0)  # 0 poor to 1 deep
    dome_height: float = _uniform(0.15, 0.24)
    cardiothoracic_ratio: float = _uniform(0.44, 0.53)  # width of heart / inner chest
    heart_tilt: float = _uniform(0.45, 0.85)  # radians
    heart_aspect: float = _uniform(0.68, 0.82)  # height over width
    mediastinum: float = _uniform(0.12, 0.17)  # its half-width
    air: float = _uniform(0.52, 0.85)  # fraction of air in the healthy lung
    rib_spacing: float = _uniform(0.125, 0.150)
    rib_phase: float = _uniform(0.0, 1.0)  # vertical offset, in spacings
    rib_slope: float = _uniform(0.13, 0.20)
    bone: float = _uniform(0.75, 1.25)  # bone density relative to the mean
    clavicle_slope: float = _uniform(0.08, 0.24)
    arm_angle: float = _uniform(0.12, 0.75)  # radians from the trunk
    stomach: float = _uniform(0.0, 0.13)  # radius of its air bubble; none below 0.05
    vessels: np.ndarray  # [right and left, angle (radians) and bend, 11], float64


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draws a patient by a fixed sequence of draws, so factors are independent."""
    angles = np.linspace(-1.45, 1.35, 11) + rng.uniform(-0.12, 0.12, (2, 11))
    ranges = {f.name: f.metadata["range"] for f in dataclasses.fields(Patient)[:-1]}
    numbers = {name: rng.uniform(*limits) for name, limits in ranges.items()}
    bends = rng.uniform(-0.5, 0.5, (2, 11))
    return Patient(**numbers, vessels=np.stack([angles, bends], axis=1))


@dataclasses.dataclass(frozen=True)
class Chest:
    """Soft tissue and air of one patient without disease; maps float32 [n, n] each.

    `field` is the lung field that a radiologist would outline: bounded by ribs,
    diaphragm and the borders of heart and mediastinum. On average the right lung has
    55 % of its area (Loyola University, LUMEN chest x-ray atlas, "Lung size
    proportion").
    """

    soft: np.ndarray  # path through tissue in cm, as if the lungs were solid
    air: np.ndarray  # path through air in the lungs, cm
    field: np.ndarray  # [0, 1]
    heart: np.ndarray  # [0, 1]
    level: np.ndarray  # height in the lung: 0 at the apex, 1 at the diaphragm's dome
    lateral: np.ndarray  # 0 in the midline, 1 at the ribs
    side: np.ndarray  # -1 in the patient's right half, +1 in the left


def smoothstep(distance: np.ndarray, width: float) -> np.ndarray:
    """Signed distance (positive inside) -> [0, 1]; rises over `width` around 0."""
    t = np.clip(distance / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def coordinates(patient: Patient, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Chest coordinates (x, y) of the pixels of an n x n image; float32 [n, n] each."""
    p = ((np.arange(n, dtype=np.float32) + 0.5) * (2.0 / n) - 1.0).astype(np.float32)
    px, py = p[None, :] - patient.shift_x, p[:, None] - patient.shift_y
    c = math.cos(patient.rotation) / patient.scale
    s = math.sin(patient.rotation) / patient.scale
    return c * px - s * py, s * px + c * py


def distance_from_spine(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance from the possibly bent spine, positive to the patient's left."""
    return x - patient.yaw - patient.scoliosis * (y - 0.2) ** 2


def chest(patient: Patient, n: int) -> Chest:
    """Maps of the patient's soft tissue and air on an n x n grid."""
    x, y = coordinates(patient, n)
    mid = distance_from_spine(patient, x, y)
    r = np.abs(x)
    side = np.sign(x)
    wall = rib_cage_half_width(patient, y)
    lateral = r / wall
    dome = _dome(patient, r, side)
    heart = _heart(patient, x, y)
    middle = _mediastinum(patient, mid, y)
    inside = smoothstep(wall - r, 0.03)
    above = smoothstep(dome - y, 0.035)
    clear = (1.0 - heart) * (1.0 - middle)
    field = inside * above * clear
    # Lung also extends behind the heart and into the recess behind the dome.
    behind = inside * (
        0.12 * above * heart + 0.10 * smoothstep(dome + 0.12 - y, 0.2) * (1 - above)
    )
    depth = (
        np.sqrt(np.clip(1.0 - (lateral * lateral) ** 2, 0.0, 1.0)) * patient.thickness
    )
    lung = (field + behind * (1.0 - 0.7 * middle)) * 0.74 * depth
    level = (y + 0.68) / (dome + 0.68)
    soft = _body(patient, x, y)
    vessels = _vessels(patient, r, side, y) * field
    soft = soft - _stomach(patient, x, y, dome) - _airways(mid, y)
    return Chest(
        soft=soft,
        air=np.maximum(patient.air * lung - vessels, 0.0),
        field=field,
        heart=heart,
        level=level,
        lateral=lateral,
        side=side,
    )


def rib_cage_half_width(patient: Patient, y: np.ndarray) -> np.ndarray:
    """Half the inner width of the chest at y: narrow apex, widest near the base."""
    widest = 0.30
    up = np.clip((widest - y) / (widest + 0.70), 0.0, 1.0)
    down = np.clip((y - widest) / 0.5, 0.0, 1.0)
    shape = (1.0 - up**2.3) ** 0.58 - 0.06 * down**2
    return patient.chest_width * np.maximum(shape, 1e-3)


def _dome(patient: Patient, r: np.ndarray, side: np.ndarray) -> np.ndarray:
    """y of the diaphragm at distance r from the midline; its right half is higher."""
    top = 0.322 + 0.14 * patient.inspiration + 0.022 * side
    away = (r - 0.46 * patient.chest_width) / (0.56 * patient.chest_width)
    return top + patient.dome_height * (
        away * away + 0.35 * np.maximum(away, 0.0) ** 2 * away * away
    )


def _heart(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A tilted ellipse, two thirds on the left; cardiothoracic_ratio sets its width."""
    c, s = math.cos(patient.heart_tilt), math.sin(patient.heart_tilt)
    half = patient.cardiothoracic_ratio * patient.chest_width
    a = half / math.hypot(c, patient.heart_aspect * s)
    b = patient.heart_aspect * a
    dx = x - 0.36 * half - patient.yaw
    dy = y - (0.16 + 0.10 * patient.inspiration)
    u, v = (c * dx + s * dy) / a, (c * dy - s * dx) / b
    return smoothstep((1.0 - np.sqrt(u * u + v * v)) * b, 0.035)


def _mediastinum(patient: Patient, mid: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Great vessels, thymus and spine: wider at the neck; includes the aortic knob."""
    knob = 0.055 * np.clip(1.0 - ((y + 0.26) / 0.13) ** 2, 0.0, 1.0)
    trunk = 0.045 * np.clip(1.0 - ((y + 0.05) / 0.2) ** 2, 0.0, 1.0)
    width = patient.mediastinum + 0.05 * np.clip(-0.35 - y, 0.0, 0.4)
    width = width + np.heaviside(mid, 1.0) * (knob + trunk)
    return smoothstep(width - np.abs(mid), 0.04)


def _body(patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Path through trunk, shoulders, neck and arms in cm; thinner at the outlines."""
    r = np.abs(x)
    trunk = (
        patient.chest_width
        + patient.fat
        + 0.02
        + 0.45 * np.clip(-y - 0.2, 0.0, 0.6) ** 1.5
    )
    flank = np.sqrt(np.clip(1.0 - (r / trunk) ** 2, 0.0, 1.0)) ** 0.7
    below_shoulders = y + 0.93 - 0.42 * np.clip(r - 0.24, 0.0, 1.0)
    round_top = np.sqrt(np.clip(below_shoulders / 0.45, 0.0, 1.0))
    neck = np.sqrt(np.clip(1.0 - (r / 0.30) ** 2, 0.0, 1.0)) * 0.72
    body = np.maximum(flank * round_top, neck * smoothstep(-y, 0.1))
    px, py = 0.73 + patient.fat, -0.50
    across, _ = along_arm(patient, r - px, y - py)
    arm = np.sqrt(np.clip(1.0 - (across / (0.17 + 0.5 * patient.fat)) ** 2, 0.0, 1.0))
    belly = 1.0 + 0.12 * np.clip(y - 0.3, 0.0, 0.6)
    return patient.thickness * np.maximum(body * belly, 0.5 * arm)


def along_arm(
    patient: Patient, dx: np.ndarray, dy: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(distance from the axis of the humerus, distance along it from its head)."""
    s, c = math.sin(patient.arm_angle), math.cos(patient.arm_angle)
    along = np.maximum(s * dx + c * dy, 0.0)
    return np.hypot(dx - along * s, dy - along * c), along


def _vessels(
    patient: Patient, r: np.ndarray, side: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Path through arteries and veins in cm; they fan out from the hila and fade."""
    dx, dy = r - 0.16, y - 0.02
    radius = np.hypot(dx, dy) + 1e-3
    angle = np.arctan2(dy, dx)
    width = 0.024 - 0.016 * np.clip(radius, 0.0, 1.0)
    total = np.zeros_like(radius)
    mean, half = patient.vessels.mean(axis=0), np.diff(patient.vessels, axis=0)[0] / 2
    mean, half = mean.astype(np.float32), half.astype(np.float32)
    for k in range(mean.shape[1]):
        offset = angle - (mean[0, k] + half[0, k] * side)
        offset -= (mean[1, k] + half[1, k] * side) * radius
        t = offset * radius / width
        total += np.clip(1.0 - t * t * 0.4, 0.0, 1.0)
    fade = np.clip(1.1 - 1.6 * radius, 0.0, 1.0)
    hilum = np.clip(1.0 - (dx / 0.10) ** 2 - (dy / 0.20) ** 2, 0.0, 1.0)
    return (1.1 * total * fade + 1.6 * hilum) * (patient.thickness / 14.0)


def _stomach(
    patient: Patient, x: np.ndarray, y: np.ndarray, dome: np.ndarray
) -> np.ndarray:
    """The air bubble under the left dome; cm of tissue that it replaces."""
    size = max(patient.stomach, 0.05)
    dx, dy = (
        (x - 0.36) / (1.5 * size),
        (y - 0.50 - 0.1 * patient.inspiration - size) / size,
    )
    bubble = np.sqrt(np.clip(1.0 - dx * dx - dy * dy, 0.0, 1.0)) * smoothstep(
        y - dome, 0.06
    )
    return 0.35 * patient.thickness * bubble * float(patient.stomach > 0.05)


def _airways(mid: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Trachea and main bronchi; cm of tissue that they replace."""
    fork = np.clip(y + 0.18, 0.0, 0.16)
    across = np.abs(np.abs(mid) - 0.9 * fork) / 0.04
    return (
        2.4 * np.sqrt(np.clip(1.0 - across**2, 0.0, 1.0)) * smoothstep(-0.06 - y, 0.08)
    )
