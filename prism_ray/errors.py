"""Every exception of prism-ray.

    PrismRayError                 something went wrong; the message says what, where and what to do; exit 1
    ├── UsageError                the user can mend it before anything runs; exit 2
    │   ├── ConfigError           a key or value of the config; names file, key and value
    │   ├── DataError             the real images: missing, corrupt, too few
    │   ├── DeviceMemoryError     a batch too large for a device; says what fits
    │   ├── FingerprintError      the store belongs to another run
    │   └── NewerStoreError       a newer version of prism-ray made the store
    ├── StoreError                a damaged or unreadable store
    ├── LeaseError                another driver is at work on the store
    ├── EngineError               an optimisation that cannot go on (non-finite loss and the like)
    ├── UnitStopped               a unit was told to stop; its state is kept
    ├── OrchestrateError          Ray: no cluster, no resources, no progress
    └── IncompleteError           the run ended with units that failed; exit 1

A `UsageError` is never retried: the same input gives the same error on every actor.
"""


class PrismRayError(Exception):
    """Base of all errors raised on purpose by prism-ray."""

    exit_code = 1


class UsageError(PrismRayError):
    """The input is wrong; running it again cannot help."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is wrong. The message names file, key, value and remedy."""


class DataError(UsageError):
    """The real images are missing, corrupt or too few."""


class DeviceMemoryError(UsageError):
    """A batch does not fit into a device's memory, whatever is done. The message says how many would."""


class FingerprintError(UsageError):
    """The store was made by a run with other settings."""


class NewerStoreError(UsageError):
    """A newer version of prism-ray made a record of the store, which this version cannot read or extend."""


class StoreError(PrismRayError):
    """An object of the store is damaged or cannot be read or written."""

    def __init__(self, message: str, problem: str | None = None) -> None:
        """`problem` is the message without the remedy, for a list of many; by default all of it."""
        super().__init__(message)
        self.problem = problem or message


class LeaseError(PrismRayError):
    """Another driver is at work on the store."""


class EngineError(PrismRayError):
    """A computation cannot go on, for example because its loss is not finite."""


class UnitStopped(PrismRayError):
    """A unit ended before its time because it was told to; no failure, another attempt goes on."""


class OrchestrateError(PrismRayError):
    """Ray cannot give what the run needs."""


class IncompleteError(PrismRayError):
    """Units of the run failed for good; what is done stays committed."""


# The names by which an error travels from an actor to the driver.
BY_NAME: dict[str, type[PrismRayError]] = {
    error.__name__: error
    for error in (
        PrismRayError,
        UsageError,
        ConfigError,
        DataError,
        DeviceMemoryError,
        FingerprintError,
        NewerStoreError,
        StoreError,
        LeaseError,
        EngineError,
        UnitStopped,
        OrchestrateError,
        IncompleteError,
    )
}
