"""What conf/config.yaml has, for commands that compose nothing."""

from importlib.resources import files


def configured(key: str) -> str:
    """What conf/config.yaml has for a key, for an option that was not given."""
    from omegaconf import OmegaConf

    return str(OmegaConf.select(OmegaConf.load(str(files("kdsweep.conf") / "config.yaml")), key))
