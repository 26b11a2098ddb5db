"""Data: a string that names a set -> uint8 images -> balanced batches.

Importing this package imports no TensorFlow; `cxr_gan.data.pipeline` does.
"""

from cxr_gan.data.sets import Dataset, ImageSet
from cxr_gan.data.sources import load

__all__ = ["Dataset", "ImageSet", "load"]
