"""Datasets: from a spec ("phantom", a folder, ...) to uint8 images and batches.

Importing this package does not import TensorFlow; `cxr_gan.data.pipeline` does.
"""

from cxr_gan.data.dataset import Dataset, ImageSet
from cxr_gan.data.loading import load

__all__ = ["Dataset", "ImageSet", "load"]
