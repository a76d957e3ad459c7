"""How often sign-in may fail: who guesses is stopped, and nobody else."""

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from residscope.errors import TooManyAttempts

SLOW_SECONDS = 1.0
_NAMES = 5  # times as many failures of one address are let pass for all names together: several people may share one


class Attempts:
    """Failures of the last minute, by address and name.

    Only failures count, and they close the door to the address that they came from alone. Were a name refused whoever
    asks, anybody could lock its owner out by trying it. A name that is guessed from many addresses is answered late and
    not refused: its owner waits for a second, and guessing takes as long each time, for passwords are compared one
    after the other.

    Args:
      limit: Failures of one address for one name, and of all addresses for a name before it is answered late.
    """

    def __init__(self, limit: int) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._limit, self._whole = RateLimitItemPerMinute(limit), RateLimitItemPerMinute(limit * _NAMES)

    def check(self, address: str, name: str) -> None:
        """Refuse an address that has failed too often.

        Raises:
          TooManyAttempts: It has, for this name or for all together.
        """
        for limit, key in ((self._limit, ("pair", address, name)), (self._whole, ("address", address))):
            if not self._limiter.test(limit, *key):
                raise TooManyAttempts(
                    f"Sign-in from {address} failed {limit.amount} times within a minute.",
                    "Wait for a minute; others may still sign in from elsewhere.",
                )

    def delay(self, name: str) -> float:
        """How many seconds to wait before a password for that name is compared."""
        return 0.0 if self._limiter.test(self._limit, "name", name) else SLOW_SECONDS

    def fail(self, address: str, name: str) -> None:
        """Count a failure."""
        self._limiter.hit(self._limit, "pair", address, name)
        self._limiter.hit(self._whole, "address", address)
        self._limiter.hit(self._limit, "name", name)
