"""The training command, its optimizer exchanged: SGD, by which runs can be compared.

Adam makes of rounding differences steps as large as any. Usage: as cxr_gan.main.
"""

import optax

from cxr_gan import main

if __name__ == "__main__":
    optax.adam = optax.rmsprop = lambda learning_rate, **_: optax.sgd(learning_rate)
    main.cli()
