"""What a generator changes in an image with the class alone, for the same latent.

Images are compared in two regions. The frame is the outer eighth of each side, where
no disease shows. The centre is the inner half of each side, where most of the lungs is.
A generator that changes only the disease changes mostly the centre, and not the frame.
"""

import numpy as np

FRAME_PART, CENTRE_PART = 8, 4  # 1 / fraction of a side, on either side of the image
GREY = 128  # of a difference map, where images are equal


def regions(size: int) -> dict[str, np.ndarray]:
    """{"frame": bool [size, size], "centre": bool [size, size]}."""
    frame, centre = np.ones((size, size), bool), np.zeros((size, size), bool)
    border, margin = size // FRAME_PART, size // CENTRE_PART
    frame[border:-border, border:-border] = False
    centre[margin:-margin, margin:-margin] = True
    return {"frame": frame, "centre": centre}


def changes(a: np.ndarray, b: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Mean absolute difference in a region, for pixels in [0, 1]; float64 [n].

    Args:
        a: uint8 [n, s, s, 1].
        b: as many images of the same size; a[i] is compared with b[i].
        region: bool [s, s].
    """
    difference = np.abs(a[..., 0].astype(np.float32) - b[..., 0])
    return difference[:, region].mean(1, dtype=np.float64) / 255


def difference_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """GREY + (b - a) / 2, clipped: brighter where b is; uint8, of the shape of both."""
    half = (b.astype(np.float32) - a.astype(np.float32)) / 2
    return np.clip(np.round(GREY + half), 0, 255).astype(np.uint8)
