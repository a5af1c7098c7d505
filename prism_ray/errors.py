"""Every exception of prism-ray.

    PrismRayError                 something went wrong; the message says what, where and what to do; exit 1
    ├── UsageError                wrong input, which the user can correct before anything runs; exit 2
    │   ├── ConfigError           a key or value of the config; the message names file, key and value
    │   ├── DataError             the real images are missing, corrupt or too few
    │   ├── DeviceMemoryError     a batch is too large for a device; the message says how many images fit
    │   ├── FingerprintError      the store belongs to a run with other settings
    │   └── NewerStoreError       a newer version of prism-ray made the store
    ├── StoreError                a damaged or unreadable store
    ├── LeaseError                another driver is working on the store
    ├── EngineError               a computation that cannot continue, for example a loss that is not finite
    │   └── MissingLayerError     a layer has no collected statistics
    ├── UnitStopped               a unit was told to stop; another attempt resumes from its checkpoint
    ├── OrchestrateError          Ray: no cluster, no resources, no progress
    ├── HubError                  the Hugging Face Hub cannot be reached, or refuses a dataset
    └── IncompleteError           the run ended with units that failed; exit 1

A `UsageError` is never retried: the same input gives the same error on every actor.
"""


class PrismRayError(Exception):
    """Base of all errors that prism-ray raises on purpose."""

    exit_code = 1


class UsageError(PrismRayError):
    """Wrong input; running it again cannot help."""

    exit_code = 2


class ConfigError(UsageError):
    """A wrong setting. The message names file, key, value and remedy."""


class DataError(UsageError):
    """Real images that are missing, corrupt or too few."""


class DeviceMemoryError(UsageError):
    """A batch that does not fit into a device's memory in any way. The message says how many images would."""


class FingerprintError(UsageError):
    """A store that was made by a run with other settings."""


class NewerStoreError(UsageError):
    """A record of a newer version of prism-ray, which this version cannot read or extend."""


class StoreError(PrismRayError):
    """An object of the store that is damaged, or that cannot be read or written."""

    def __init__(self, message: str, problem: str | None = None) -> None:
        """`problem` is the message without the remedy, for lists; by default it is the whole message."""
        super().__init__(message)
        self.problem = problem or message


class LeaseError(PrismRayError):
    """Another driver is working on the store."""


class EngineError(PrismRayError):
    """A computation that cannot continue, for example because its loss is not finite."""


class MissingLayerError(EngineError):
    """A layer of a teacher whose statistics were not collected; its name is the message."""


class UnitStopped(PrismRayError):
    """A unit that ended early because it was told to. It has not failed; another attempt resumes it."""


class OrchestrateError(PrismRayError):
    """Ray cannot provide what the run needs."""


class HubError(PrismRayError):
    """The Hugging Face Hub cannot be reached, or refuses a dataset."""


class IncompleteError(PrismRayError):
    """Units of the run failed in all their attempts; what is done stays committed."""


# An error travels from an actor to the driver by its name.
BY_NAME = {
    name: kind
    for name, kind in list(globals().items())
    if isinstance(kind, type) and issubclass(kind, PrismRayError)
}
