"""A mistake of the user's, or something missing on this machine, as one sentence: what, which value, what to do."""


class TrainError(Exception):
    """Ends a stage with exit status 2 and its sentence, without a traceback."""
