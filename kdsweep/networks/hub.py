"""Weights that a library downloads, and what to do if that fails."""

import contextlib
import socket
from collections.abc import Iterator

from kdsweep.errors import ConfigError

SECONDS = 10  # to wait for an answer
OF_A_NETWORK = ("httpx", "httpx2", "huggingface_hub", "requests")  # their errors, and the system's


@contextlib.contextmanager
def downloading(architecture: str, what: str, cache: str) -> Iterator[None]:
    """A context in which a library downloads `what` into `cache`. Raises ConfigError if the network fails."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or SECONDS)  # torch's own downloads have none
    try:
        yield
    except Exception as error:  # each library has its own types for a network that fails
        modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if not isinstance(error, OSError) and modules.isdisjoint(OF_A_NETWORK):
            raise
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        raise ConfigError(
            f"model.pretrained: the weights of {architecture} cannot be downloaded ({why}); download {what} "
            f"on another machine into {cache}, or use model.pretrained=false, or weights=FILE"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def ask_hub(repository: str, files: list[str]) -> None:
    """Raise the Hugging Face hub's error if it does not answer and the cache has none of the `files`.

    This asks once; a download would try each file six times.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    repository, _, revision = repository.partition("@")
    version = revision or None
    if any(isinstance(try_to_load_from_cache(repository, name, revision=version), str) for name in files):
        return
    try:
        get_hf_file_metadata(hf_hub_url(repository, files[0], revision=version), timeout=SECONDS)
    except HfHubHTTPError as error:
        if error.response.status_code >= 429:  # too many requests, or the hub is down
            raise
