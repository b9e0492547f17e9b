"""What can go wrong for a person, as one sentence: what, which value, what to do.

    SpaceError
    ├── BadRequest        422  a value the visitor sent is out of range or of the wrong kind
    ├── TextTooLong       413  the message does not fit the model
    ├── NotReady          503  the model is still loading, or could not be loaded
    │   └── ModelError         why it could not be loaded, and what the deployer should do
    ├── TooMany           429  one visitor asks more often than RATE_LIMIT allows
    ├── Busy              503  every place is taken
    └── GenerationFailed  503  the model stopped with an error in the middle of an answer

`str(error)` is the sentence; it is fit to be shown on the page and in an API answer.
"""

UNFIT = "This could not be done with the values that were sent; please check them, or try again."
"""The sentence where Gradio gives none."""


class SpaceError(Exception):
    """Base of all errors with a sentence for the person who meets them."""

    status = 503
    """The HTTP status that says the same."""
    retry_after: int | None = None
    """Seconds after which trying again makes sense, for the Retry-After header."""


class BadRequest(SpaceError):
    status = 422


class TextTooLong(SpaceError):
    status = 413


class NotReady(SpaceError):
    retry_after: int | None = 10


class ModelError(NotReady):
    retry_after = None


class TooMany(SpaceError):
    status = 429

    def __init__(self, sentence: str, seconds: int) -> None:
        super().__init__(sentence)
        self.retry_after = seconds


class Busy(SpaceError):
    retry_after = 15


class GenerationFailed(SpaceError):
    retry_after = 5
