"""The phantom for TensorFlow Datasets: import this, then `tfds.load("cxr_phantom")`."""

from cxr_gan.data.cxr_phantom.cxr_phantom_dataset_builder import Builder

__all__ = ["Builder"]
