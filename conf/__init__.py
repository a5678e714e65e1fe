"""The configuration groups, installed as `kdsweep.conf`."""
