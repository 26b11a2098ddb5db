"""`python -m cxr_gan.main` with SGD in place of Adam, so that runs can be compared.

Adam turns rounding differences of gradients near 0 into steps of full size.
"""

import optax

from cxr_gan import main

if __name__ == "__main__":
    optax.adam = optax.rmsprop = lambda learning_rate, **_: optax.sgd(learning_rate)
    main.cli()
