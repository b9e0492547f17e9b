"""The product: everything that serves. It never imports `train`."""
