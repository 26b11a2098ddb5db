"""The generator and the discriminator: Flax modules, and their layers."""
