"""The phantom's bones: ribs, spine, clavicles, scapulae and humeri."""

import numpy as np

from cxr_gan.data.phantom import anatomy


def bones(patient: anatomy.Patient, n: int) -> np.ndarray:
    """Path through bone in cm, scaled by the patient's bone density; float32 [n, n]."""
    x, y = anatomy.coordinates(patient, n)
    r = np.abs(x)
    mid = anatomy.distance_from_spine(patient, x, y)
    thorax = _ribs(patient, r, y) + _spine(patient, mid, y)
    return patient.bone * (thorax + _shoulders(patient, r, y))


def _ribs(patient: anatomy.Patient, r: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Path through all ribs in cm; each pair is an ellipse around the chest.

    Ribs repeat with a fixed spacing, so the distance to the nearest rib follows from
    the distance of the phase to the nearest integer.
    """
    wall = anatomy.rib_cage_half_width(patient, y)
    s = np.clip(r / (wall + 0.02), 0.0, 1.0)
    bow = np.sqrt(1.0 - s * s)
    total = np.zeros_like(r)
    # Posterior and anterior part: (drop below the rib's head, half-thickness, strength,
    # extent)
    back = (1.0 - bow, 0.030, 0.72, anatomy.smoothstep(r - 0.08, 0.04))
    front = (1.0 + bow, 0.034, 0.42, anatomy.smoothstep(s - 0.55, 0.2))
    for drop, half, strength, extent in (back, front):
        phase = (y - patient.rib_slope * drop) / patient.rib_spacing + patient.rib_phase
        d = np.abs(phase - np.round(phase)) * (patient.rib_spacing / half)
        cortex = 0.7 + 0.5 * np.minimum(d * d, 1.0)
        total += strength * extent * cortex * anatomy.smoothstep((1.0 - d) * half, 0.02)
    tangent = 1.0 / (0.45 + bow)  # longer where the beam is tangential to the flank
    cage = (
        anatomy.smoothstep(wall + 0.035 - r, 0.03)
        * anatomy.smoothstep(y + 0.66, 0.08)
        * anatomy.smoothstep(0.80 - y, 0.3)
    )
    return total * tangent * cage


def _spine(patient: anatomy.Patient, mid: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Path through vertebrae, with discs between them, and spinous processes; cm."""
    phase = y / (0.9 * patient.rib_spacing) + patient.rib_phase
    d = np.abs(phase - np.round(phase))
    body = anatomy.smoothstep(0.085 - np.abs(mid), 0.03) * (
        0.75 + 0.5 * anatomy.smoothstep(0.36 - d, 0.12)
    )
    process = anatomy.smoothstep(0.02 - np.abs(mid), 0.03) * anatomy.smoothstep(
        0.2 - d, 0.1
    )
    return 0.5 * body + 0.35 * process


def _shoulders(patient: anatomy.Patient, r: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Path through clavicles, scapulae and humeri; cm."""
    u = (r - 0.07) / 0.72
    line = -0.52 - patient.clavicle_slope * u + 0.035 * np.sin(6.0 * u)
    clavicle = anatomy.smoothstep(0.026 - np.abs(y - line), 0.025) * anatomy.smoothstep(
        0.5 - np.abs(u - 0.5), 0.06
    )
    blade = r - (0.86 - 0.20 * (y + 0.5))
    scapula = anatomy.smoothstep(0.018 - np.abs(blade), 0.03) * anatomy.smoothstep(
        0.24 - np.abs(y + 0.28), 0.1
    )
    plate = anatomy.smoothstep(
        0.5 - np.abs(2.2 * blade - 0.1), 0.5
    ) * anatomy.smoothstep(0.24 - np.abs(y + 0.36), 0.2)
    across, along = anatomy.along_arm(patient, r - 0.73 - patient.fat, y + 0.50)
    shaft = anatomy.smoothstep(
        0.05 - across + 0.03 * anatomy.smoothstep(0.06 - along, 0.1), 0.03
    )
    return 0.75 * clavicle + 0.4 * scapula + 0.12 * plate + 0.9 * shaft
