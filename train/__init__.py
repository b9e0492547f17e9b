"""The factory: everything that makes a model."""
