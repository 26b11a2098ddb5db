"""What made the figures and weights that come with cxr_gan; no part of the package."""
