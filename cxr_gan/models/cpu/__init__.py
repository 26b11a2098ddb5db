"""How the networks compute on CPUs; the only module of this folder that others import.

On TPUs and GPUs these functions change nothing. The backend is read while a program is
traced.
"""

from cxr_gan.models.cpu.convolution import conv_general_dilated
from cxr_gan.models.cpu.layout import activation_dtype, materialize

__all__ = ["activation_dtype", "conv_general_dilated", "materialize"]
