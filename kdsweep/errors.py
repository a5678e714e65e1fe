"""What a person can mend is a KdsweepError: its message is shown, its traceback is not."""


class KdsweepError(Exception):
    """Says what is wrong, where, what is allowed and what to do, in one or two lines."""


class ConfigError(KdsweepError):
    """A composed config that cannot be run; the message lists everything wrong with it."""


class DataError(KdsweepError):
    """A data set that is not there, or is not what it should be."""


class TrainingError(KdsweepError):
    """A training that cannot go on, such as one whose loss is no longer a number."""
