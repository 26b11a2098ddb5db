"""The two networks: pure Flax modules, one class and one file each."""
