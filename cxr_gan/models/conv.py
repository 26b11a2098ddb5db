"""Convolution layers; on CPUs they use the kernels of `models.cpu`."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cxr_gan.models import cpu


class Conv3x3(nn.Module):
    """3 x 3 convolution with bias, stride 1 and zero padding to the input's size."""

    features: int
    dtype: Any = jnp.float32  # compute dtype; parameters stay float32
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h, w, features], of dtype; float32 on CPUs."""
        return nn.Conv(
            self.features,
            (3, 3),
            dtype=cpu.activation_dtype(self.dtype),
            kernel_init=self.kernel_init,
            conv_general_dilated=cpu.conv_general_dilated(self.dtype),
            name="conv",
        )(x)


class Conv1x1(nn.Module):
    """1 x 1 convolution without bias, computed as one matrix product over all pixels.

    The weight gradient is then a matrix product as well, which CPUs compute two to four
    times as fast as the contraction of two arrays of rank 4.
    """

    features: int
    dtype: Any = jnp.float32  # compute dtype; parameters stay float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [n, h, w, c] -> [n, h, w, features], of dtype; float32 on CPUs."""
        channels, dtype = x.shape[-1], cpu.activation_dtype(self.dtype)
        shape = channels, self.features
        kernel = self.param("kernel", self.kernel_init, shape)
        y = x.reshape(-1, channels).astype(dtype) @ kernel.astype(dtype)
        return y.reshape(*x.shape[:-1], self.features)
